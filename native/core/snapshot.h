// A consistent copy of live memory, and putting it back at the cost of the pages written since.
// Two ways to make the copy: snapshot_copy.cc (at once, again and again until it is of one instant)
// and snapshot_capture.cc (copy on write: at leisure). Knows dirty trackers, not userfaultfd.
#ifndef UFFD_CORE_SNAPSHOT_H_
#define UFFD_CORE_SNAPSHOT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/capture.h"
#include "core/copy_on_write.h"
#include "core/dirty_tracker.h"
#include "core/mapping.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

class Snapshot {
 public:
  // Makes the tracker of `bytes`, whose copy will be `copy`. `page_size`: of the memory.
  using TrackerFactory = Result<std::unique_ptr<DirtyTracker>> (*)(
      Range bytes, uint64_t page_size, const std::shared_ptr<Mapping>& copy);
  struct Restored {
    uint64_t pages = 0;      // put back
    uint64_t bytes = 0;      // of those pages, inside the memories
    uint64_t different = 0;  // pages that somebody wrote meanwhile and that differ again
  };

  struct Source {
    Range bytes;  // any alignment; whole pages to be taken copy-on-write
    uint64_t page_size = 0;
    std::shared_ptr<Mapping> mapping;  // as in Capture::Memory
  };
  // How it is tracked once it is captured; the second where the first is not to be had.
  struct Trackers {
    TrackerFactory by_writes;
    TrackerFactory by_bytes;
  };
  struct Taken;

  // Copies `memories`. The copy is of one instant: pages written while it was made are copied again
  // until a whole pass finds none. EAGAIN: the writers never paused. EDQUOT: it has more than
  // `most_bytes` in pages that are not zero.
  static Result<std::unique_ptr<Snapshot>> Take(const std::vector<Source>& memories,
                                                TrackerFactory track, uint64_t most_bytes) noexcept;
  // Arms the memories, which is the instant, and copies them in the background. `settled` runs
  // once, on another thread, when all is captured or it failed. With `by_writes` null it is
  // compared.
  static Taken TakeCopyOnWrite(const std::vector<Source>& memories,
                               const CopyOnWrite::Options& options, Trackers trackers,
                               std::function<void()> settled) noexcept;
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot();

  // Whether all is captured, or it failed: then what is asked of it fails with this reason.
  bool IsSettled() const noexcept { return settled_.load(); }
  Status Health() const noexcept;
  // Of a copy-on-write snapshot.
  Cut::Progress Progress() const noexcept;

  // `live`: where the memories are now. A memory that grew is put back and the rest zeroed; one
  // that shrank is ERANGE and nothing is written.
  Result<Restored> Restore(const std::vector<Range>& live) noexcept;
  // For each memory the pages written since: every one that differs, also from what was between
  // this snapshot and now. ENOTSUP: it is compared, so that cannot be told.
  Result<std::vector<RangeSet>> Written(const std::vector<Range>& live) noexcept;
  // For each memory the pages whose bytes differ, among those written since.
  Result<std::vector<RangeSet>> Diff(const std::vector<Range>& live) noexcept;

  size_t MemoryCount() const noexcept { return memories_.size(); }
  uint64_t Bytes(size_t memory) const noexcept { return memories_[memory].taken.Length(); }
  Status Read(size_t memory, uint64_t offset, uint64_t length, uint8_t* to) noexcept;

 private:
  struct Memory {
    Range taken;             // where the memory was
    uint64_t page_size = 0;  // of it
    std::unique_ptr<DirtyTracker> tracker;
    bool tracked_by_writes = false;
    std::shared_ptr<Mapping> copy;     // page by page, in the alignment of the memory
    std::shared_ptr<Capture> capture;  // copy-on-write only
    size_t verified = 0;               // pages of the capture; see VerifySome
    // The copy of what lives at `live_start + offset` now.
    uint8_t* CopyAt(uint64_t offset) const noexcept;
  };

  Snapshot() = default;
  // Copy-on-write: from capturing to tracking.
  void Settle() noexcept;
  Status TrackCaptured(Memory* memory) noexcept;
  static bool VerifySome(Memory* memory) noexcept;
  // The trackers tell all that was written until now. Under mutex_.
  Status Prepare() noexcept;
  // Copy.
  class Room;
  class CopyingAgain;
  static Status CopyAll(const Memory& memory, Room* room) noexcept;
  Status CopyUntilQuiet(Room* room) noexcept;
  Status TakeRoomForSharedPages(Room* room) const noexcept;
  Status Follow(const std::vector<Range>& live) noexcept;
  static bool Differs(const Memory& memory, Range live, Range page) noexcept;
  static uint64_t PutBack(const Memory& memory, Range live, Range page) noexcept;

  std::vector<Memory> memories_;

  // Copy-on-write: between the thread that settles and the callers.
  std::mutex mutex_;
  std::atomic<bool> settled_{true};
  std::atomic<bool> closing_{false};
  std::atomic<int> failed_{0};
  Trackers trackers_{};
  std::function<void()> when_settled_;
  // Last: its thread ends before the rest goes.
  std::unique_ptr<CopyOnWrite> capturing_;
};

struct Snapshot::Taken {
  std::unique_ptr<Snapshot> snapshot;  // null: see the rest
  std::vector<Attempt> attempts;
  uint64_t missing_features = 0;
  Failure failure;
};

}  // namespace uffd

#endif  // UFFD_CORE_SNAPSHOT_H_
