#include "core/wp_async_tracker.h"

#include <utility>

#include "core/capture_list.h"
#include "core/wp_async_domain.h"

namespace uffd {

std::optional<WpAsyncTracker::Unavailable> WpAsyncTracker::WhyUnavailable() noexcept {
  return WpAsyncDomain::Get().WhyUnavailable();
}

Result<std::unique_ptr<DirtyTracker>> WpAsyncTracker::Create(Range bytes,
                                                             uint64_t page_size) noexcept {
  std::unique_ptr<WpAsyncTracker> tracker(
      new WpAsyncTracker(bytes.RoundOutward(page_size), page_size));
  CaptureList::Get().Finish(tracker->pages_);
  const Status attached = WpAsyncDomain::Get().Attach(tracker.get());
  if (!attached) return attached.Error();
  tracker->attached_ = true;
  return std::unique_ptr<DirtyTracker>(std::move(tracker));
}

WpAsyncTracker::~WpAsyncTracker() {
  if (attached_) WpAsyncDomain::Get().Detach(this);
}

Status WpAsyncTracker::Collect(RangeSet* dirty) noexcept {
  return WpAsyncDomain::Get().Scan(this, Pagemap::Rearm::kYes, dirty);
}

Status WpAsyncTracker::Peek(RangeSet* dirty) noexcept {
  return WpAsyncDomain::Get().Scan(this, Pagemap::Rearm::kNo, dirty);
}

Status WpAsyncTracker::BeginSettling(size_t pages) noexcept {
  return WpAsyncDomain::Get().BeginSettling(pages);
}

void WpAsyncTracker::EndSettling() noexcept { WpAsyncDomain::Get().EndSettling(); }

Result<bool> WpAsyncTracker::Settle(Range page) noexcept {
  return WpAsyncDomain::Get().Settle(this, page);
}

Result<bool> WpAsyncTracker::AnyWritten() noexcept { return WpAsyncDomain::Get().AnyWritten(this); }

void WpAsyncTracker::MarkDirty(Range pages) noexcept {
  WpAsyncDomain::Get().MarkDirty(this, pages);
}

Status WpAsyncTracker::Follow(Range bytes) noexcept {
  return WpAsyncDomain::Get().Follow(this, bytes.RoundOutward(page_size_));
}

}  // namespace uffd
