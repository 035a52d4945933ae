// A handful of ranges in place: a set that allocates nothing, and says so when it was too small.
#ifndef UFFD_CORE_FEW_RANGES_H_
#define UFFD_CORE_FEW_RANGES_H_

#include <algorithm>
#include <array>
#include <cstddef>

#include "core/range.h"

namespace uffd {

class FewRanges {
 public:
  void Add(Range range) noexcept {
    for (size_t i = 0; i < count_; i++) {
      Range& each = ranges_[i];
      if (range.start > each.end || each.start > range.end) continue;
      each = {std::min(each.start, range.start), std::max(each.end, range.end)};
      return;
    }
    if (count_ == ranges_.size()) {
      complete_ = false;
      return;
    }
    ranges_[count_++] = range;
  }

  bool Overlaps(Range range) const noexcept {
    return std::any_of(ranges_.begin(), ranges_.begin() + count_,
                       [range](const Range& each) { return each.Overlaps(range); });
  }

  // False: some that were added are not in it.
  bool Complete() const noexcept { return complete_; }

 private:
  std::array<Range, 32> ranges_{};
  size_t count_ = 0;
  bool complete_ = true;
};

}  // namespace uffd

#endif  // UFFD_CORE_FEW_RANGES_H_
