#include "core/capture_tracker.h"

namespace uffd {

Status CaptureTracker::Peek(RangeSet* dirty) noexcept {
  capture_->Written(dirty);
  // What came with growth was never armed.
  const Range grown{capture_->Pages().end, live_.RoundOutward(PageSize()).end};
  if (!grown.Empty()) dirty->Add(grown);
  return Done{};
}

// Nothing lies in the pages of such a memory but itself: see DirtyTracker.
Result<bool> CaptureTracker::Settle(Range /*page*/) noexcept { return false; }

Result<bool> CaptureTracker::AnyWritten() noexcept {
  RangeSet written;
  const Status peeked = Peek(&written);
  if (!peeked) return peeked.Error();
  return !written.Empty();
}

Status CaptureTracker::Follow(Range bytes) noexcept {
  if (!capture_->Pages().Empty() && bytes.start != capture_->Pages().start) {
    return Failure{Cut::kLost, "snapshot"};
  }
  live_ = bytes;
  return Done{};
}

}  // namespace uffd
