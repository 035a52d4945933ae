// A consistent copy of live memory, and putting it back at the cost of the pages written since.
// Knows dirty trackers, not userfaultfd.
#ifndef UFFD_CORE_SNAPSHOT_H_
#define UFFD_CORE_SNAPSHOT_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/dirty_tracker.h"
#include "core/mapping.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

class Snapshot {
 public:
  // Makes the tracker of `bytes`, whose copy will be `copy`.
  using TrackerFactory =
      Result<std::unique_ptr<DirtyTracker>> (*)(Range bytes, const std::shared_ptr<Mapping>& copy);
  struct Restored {
    uint64_t pages = 0;      // put back
    uint64_t bytes = 0;      // of those pages, inside the memories
    uint64_t different = 0;  // pages that somebody wrote meanwhile and that differ again
  };

  // Copies `memories` (bytes, any alignment). The copy is of one instant: pages written while it
  // was made are copied again until a whole pass finds none. EAGAIN: the writers never paused.
  static Result<std::unique_ptr<Snapshot>> Take(const std::vector<Range>& memories,
                                                TrackerFactory track) noexcept;

  // `live`: where the memories are now. A memory that grew is put back and the rest zeroed; one
  // that shrank is ERANGE and nothing is written.
  Result<Restored> Restore(const std::vector<Range>& live) noexcept;
  // For each memory the pages whose bytes differ, among those written since.
  Result<std::vector<RangeSet>> Diff(const std::vector<Range>& live) noexcept;

  size_t MemoryCount() const noexcept { return memories_.size(); }
  uint64_t Bytes(size_t memory) const noexcept { return memories_[memory].taken.Length(); }
  void Read(size_t memory, uint64_t offset, uint64_t length, uint8_t* to) const noexcept;

 private:
  struct Memory {
    Range taken;  // where the memory was
    std::unique_ptr<DirtyTracker> tracker;
    std::shared_ptr<Mapping> copy;  // page by page, in the alignment of the memory
    // The copy of what lives at `live_start + offset` now.
    uint8_t* CopyAt(uint64_t offset) const noexcept;
    // Its first and last page where they hold other data too; else empty.
    std::array<Range, 2> SharedPages() const noexcept;
  };

  // A page that the memories of the snapshot share with other data or each other, and one of its
  // trackers.
  struct SharedPage {
    Range page;
    DirtyTracker* tracker;
  };

  Snapshot() = default;
  Status CopyUntilQuiet() noexcept;
  std::vector<SharedPage> SharedPages() const;
  Result<bool> HeldStill(const std::vector<SharedPage>& shared) noexcept;
  Result<bool> SettleAndCompare(const std::vector<SharedPage>& shared) noexcept;
  static bool CopyIfDifferent(const Memory& memory, Range page) noexcept;
  Status Follow(const std::vector<Range>& live) noexcept;
  static bool Differs(const Memory& memory, Range live, Range page) noexcept;
  static uint64_t PutBack(const Memory& memory, Range live, Range page) noexcept;

  std::vector<Memory> memories_;
};

}  // namespace uffd

#endif  // UFFD_CORE_SNAPSHOT_H_
