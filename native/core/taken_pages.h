// Pages that one of several readers took, for the others to read when their turn comes. To tell
// each of them at once is a few lines of cache for each (a thousand trackers of one memory, bench
// case growth); here a reader pays for what was put down since it last read, and all of them at
// once for many of these together.
#ifndef UFFD_CORE_TAKEN_PAGES_H_
#define UFFD_CORE_TAKEN_PAGES_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/range.h"

namespace uffd {

class TakenPages {
  static constexpr size_t kMostSets = 256;

 public:
  // How far a reader has read.
  using Position = uint64_t;

  bool Empty() const noexcept { return count_ == 0; }
  Position End() const noexcept { return first_ + count_; }
  // False: there is no room, until every reader has read it and it was cleared.
  bool Put(RangeSet* pages) noexcept;
  // Adds what was put down since, as far as it lies in `bounds`.
  void Read(Position* since, Range bounds, RangeSet* pages) noexcept;
  // What was put down lies in it.
  Range Hull() const noexcept { return hull_; }
  void Clear() noexcept;

 private:
  static constexpr size_t kMostRanges = 1024;
  // So many are joined as soon as they are there, for those who are far behind: they read a set for
  // each of the largest groups, and a few at both ends.
  static constexpr size_t kGroups[] = {8, 64};
  // Ranges, for which a set keeps room.
  static constexpr size_t kKeptRoom = 64;

  // The last `group` of them: each has what those after it have, too.
  void JoinLast(size_t group) noexcept;

  std::array<RangeSet, kMostSets> sets_;
  std::array<size_t, kMostSets> next_{};  // the first that a set does not have
  size_t count_ = 0;
  size_t ranges_ = 0;   // that were put down
  Position first_ = 0;  // of the first set
  Range hull_{};
};

}  // namespace uffd

#endif  // UFFD_CORE_TAKEN_PAGES_H_
