// Which of many ranges, that may overlap each other, overlap a given one.
#ifndef UFFD_CORE_RANGE_INDEX_H_
#define UFFD_CORE_RANGE_INDEX_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "core/range.h"

namespace uffd {

// Ranges of similar length lie together, in the order of their starts: how far before a range those
// can start that still reach into it is then known, and a look-up costs what it finds and a little
// more, however many there are (test 50, 20,000 trackers). T: a pointer. Empty ranges overlap none.
template <typename T>
class RangeIndex {
 public:
  void Insert(Range range, T value) {
    if (!range.Empty()) classes_[ClassOf(range)].emplace(Key{range.start, value}, range.end);
  }

  void Erase(Range range, T value) {
    if (!range.Empty()) classes_[ClassOf(range)].erase(Key{range.start, value});
  }

  // `visit` leaves the index as it is.
  template <typename Visit>
  void ForEachOverlapping(Range range, Visit visit) const {
    if (range.Empty()) return;
    for (size_t length_class = 0; length_class < kClasses; length_class++) {
      const auto& entries = classes_[length_class];
      if (entries.empty()) continue;
      // The longest of this class is shorter than that.
      const uint64_t reach = uint64_t{2} << length_class;
      const uint64_t from = range.start > reach ? range.start - reach : 0;
      for (auto entry = entries.lower_bound(Key{from, T{}});
           entry != entries.end() && entry->first.first < range.end; ++entry) {
        if (entry->second > range.start) visit(entry->first.second);
      }
    }
  }

 private:
  using Key = std::pair<uint64_t, T>;  // start; then whose it is
  static constexpr size_t kClasses = 63;

  // Class n holds the lengths from 2^n to 2^(n+1) - 1.
  static size_t ClassOf(Range range) noexcept {
    return static_cast<size_t>(std::bit_width(range.Length())) - 1;
  }

  std::array<std::map<Key, uint64_t>, kClasses> classes_;
};

}  // namespace uffd

#endif  // UFFD_CORE_RANGE_INDEX_H_
