// What a snapshot that is still being captured knows of writes: the pages written since its
// instant, at every look. Nothing is re-armed, for nothing that is written stays armed.
#ifndef UFFD_CORE_CAPTURE_TRACKER_H_
#define UFFD_CORE_CAPTURE_TRACKER_H_

#include <memory>

#include "core/capture.h"
#include "core/dirty_tracker.h"

namespace uffd {

class CaptureTracker final : public DirtyTracker {
 public:
  explicit CaptureTracker(std::shared_ptr<Capture> capture) noexcept
      : capture_(std::move(capture)), live_(capture_->Pages()) {}

  Status Collect(RangeSet* dirty) noexcept override { return Peek(dirty); }
  Status Peek(RangeSet* dirty) noexcept override;
  Result<bool> Settle(Range page) noexcept override;
  Result<bool> AnyWritten() noexcept override;
  void MarkDirty(Range /*pages*/) noexcept override {}
  // ESTALE when it moved.
  Status Follow(Range bytes) noexcept override;

 private:
  const std::shared_ptr<Capture> capture_;
  Range live_;
};

}  // namespace uffd

#endif  // UFFD_CORE_CAPTURE_TRACKER_H_
