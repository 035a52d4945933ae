// Which pages of one range of memory were written. One implementation per engine.
#ifndef UFFD_CORE_DIRTY_TRACKER_H_
#define UFFD_CORE_DIRTY_TRACKER_H_

#include <memory>

#include "core/range.h"
#include "core/result.h"

namespace uffd {

class DirtyTracker {
 public:
  virtual ~DirtyTracker() = default;

  // Adds the pages written since the last collect to `dirty` and re-arms them in the same step.
  virtual Status Collect(RangeSet* dirty) noexcept = 0;
  // The same without re-arming.
  virtual Status Peek(RangeSet* dirty) noexcept = 0;
  // Re-arms `pages` like a collect of them, and tells whether any was written; those written are
  // noted for the other trackers only. Writes no heap memory when none was: the heap may be what is
  // tracked.
  virtual Result<bool> Settle(Range pages) noexcept = 0;
  // Whether a peek would report anything.
  virtual Result<bool> AnyWritten() noexcept = 0;
  // The next collect reports these pages.
  virtual void MarkDirty(Range pages) noexcept = 0;
  // The memory grew, shrank or moved. What is new counts as written.
  virtual Status Follow(Range pages) noexcept = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_DIRTY_TRACKER_H_
