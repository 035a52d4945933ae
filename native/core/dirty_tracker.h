// Which pages of one range of memory were written. Implementations: domain_tracker (with the marks
// of wp_async or wp_sync) and compare_tracker. All ranges are addresses; a tracker rounds bytes
// outward to whole pages itself.
#ifndef UFFD_CORE_DIRTY_TRACKER_H_
#define UFFD_CORE_DIRTY_TRACKER_H_

#include <cstddef>
#include <memory>

#include "core/packed_pages.h"
#include "core/range.h"
#include "core/result.h"
#include "core/write_log.h"

namespace uffd {

class DirtyTracker {
 public:
  virtual ~DirtyTracker() = default;

  // Adds the pages written since the last collect to `dirty` and re-arms them in the same step.
  virtual Status Collect(RangeSet* dirty) noexcept = 0;
  // The same straight into what is handed over, where nothing is to be added to it and the engine
  // keeps no log of writes. False: nothing was told, and Collect tells it; `dirty` has to begin
  // anew.
  virtual bool CollectPacked(PackedPages* /*dirty*/) noexcept { return false; }
  // Collect without re-arming.
  virtual Status Peek(RangeSet* dirty) noexcept = 0;
  // For a snapshot whose pages hold other data too, the heap's perhaps: from here to EndSettling,
  // on any one tracker of the engine, its trackers write no memory that could be watched, and
  // nobody else collects. `pages`: how often Settle is called at most.
  virtual Status BeginSettling(size_t /*pages*/) noexcept { return Done{}; }
  // Other trackers are told what was settled.
  virtual void EndSettling() noexcept {}
  // Re-arms one page like a collect of it, and tells whether it was written. In the order of their
  // addresses, each page once.
  virtual Result<bool> Settle(Range page) noexcept = 0;
  // Whether anything was written that neither a collect nor Settle took.
  virtual Result<bool> AnyWritten() noexcept = 0;
  // Whether the next collect would add any, or has something to repair.
  virtual bool IsDirty() noexcept {
    const Result<bool> any = AnyWritten();
    return !any || any.Value();
  }
  // Whether a QuietTime can stand for a second look: a write of what was collected is a page fault
  // of the thread that writes, and the kernel is one where it may be asked.
  virtual bool AllowsQuietTime() const noexcept { return false; }
  // The next collect reports these pages.
  virtual void MarkDirty(Range pages) noexcept = 0;
  // The memory grew, shrank or moved to `bytes`. Pages that are new count as written.
  virtual Status Follow(Range bytes) noexcept = 0;
  // What is loaded from a snapshot file is no write for whoever reads this.
  virtual void IgnoreLoads() noexcept {}
  // Moves what the engine knows of the writes to collected pages to `log`.
  virtual void TakeWrites(WriteLog* /*log*/) noexcept {}
};

}  // namespace uffd

#endif  // UFFD_CORE_DIRTY_TRACKER_H_
