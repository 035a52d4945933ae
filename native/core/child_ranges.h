// What a forked child has registered, as it was at the fork: the parent may unregister, or register
// anew, without the child.
#ifndef UFFD_CORE_CHILD_RANGES_H_
#define UFFD_CORE_CHILD_RANGES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/range.h"

namespace uffd {

struct ChildRange {
  Range range;
  uint64_t page_size = 0;
  uint32_t registration = 0;  // of the parent; 0: the child moved it there
  bool has_source = false;

  Range PageOf(uint64_t address) const noexcept {
    return Range{address, address + 1}.RoundOutward(page_size);
  }
};

// In room that somebody else made: the loop thread, which adds, allocates nothing.
class ChildRanges {
 public:
  static constexpr size_t kMost = 4096;

  ChildRanges() = default;
  explicit ChildRanges(ChildRange* room) noexcept : ranges_(room) {}

  ChildRanges Emptied() const noexcept { return ChildRanges(ranges_); }
  // False: there is no room.
  bool Add(const ChildRange& range) noexcept {
    if (count_ == kMost) return false;
    ranges_[count_++] = range;
    return true;
  }
  // The child may move memory to and fro for as long as it likes.
  bool AddMoved(Range to) noexcept {
    const auto is_there = [to](const ChildRange& each) {
      return each.registration == 0 && each.range.Contains(to);
    };
    return std::any_of(ranges_, ranges_ + count_, is_there) || Add({to});
  }
  // Null where nothing was registered.
  const ChildRange* Find(uint64_t address) const noexcept {
    const ChildRange* const begin = ranges_;
    const ChildRange* const end = begin + count_;
    const ChildRange* const found = std::find_if(begin, end, [address](const ChildRange& each) {
      return each.range.Contains({address, address + 1});
    });
    return found == end ? nullptr : found;
  }
  template <typename Visit>
  void ForEach(Visit visit) const noexcept {
    std::for_each(ranges_, ranges_ + count_, visit);
  }

 private:
  ChildRange* ranges_ = nullptr;
  size_t count_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_CHILD_RANGES_H_
