#include "core/domain_tracker.h"

#include <utility>

#include "core/holder_list.h"
#include "core/tracking_domain.h"
#include "core/wp_async.h"

namespace uffd {

Result<std::unique_ptr<DirtyTracker>> DomainTracker::Create(TrackingDomain* domain, Range bytes,
                                                            uint64_t page_size) noexcept {
  std::unique_ptr<DomainTracker> tracker(
      new DomainTracker(domain, bytes.RoundOutward(page_size), page_size));
  HolderList::Get().Finish(tracker->pages_);
  const Status attached = domain->Attach(tracker.get());
  if (!attached) return attached.Error();
  tracker->attached_ = true;
  return std::unique_ptr<DirtyTracker>(std::move(tracker));
}

DomainTracker::~DomainTracker() {
  if (attached_) domain_->Detach(this);
}

Status DomainTracker::Collect(RangeSet* dirty) noexcept {
  return domain_->Scan(this, Pagemap::Rearm::kYes, dirty);
}

bool DomainTracker::CollectPacked(PackedPages* dirty) noexcept {
  return domain_->CollectPacked(this, dirty);
}

Status DomainTracker::Peek(RangeSet* dirty) noexcept {
  return domain_->Scan(this, Pagemap::Rearm::kNo, dirty);
}

Status DomainTracker::BeginSettling(size_t pages) noexcept { return domain_->BeginSettling(pages); }

void DomainTracker::EndSettling() noexcept { domain_->EndSettling(); }

Result<bool> DomainTracker::Settle(Range page) noexcept { return domain_->Settle(this, page); }

Result<bool> DomainTracker::AnyWritten() noexcept { return domain_->AnyWritten(this); }

bool DomainTracker::IsDirty() noexcept { return domain_->IsDirty(this); }

// Asynchronous tracking came with Linux 6.7; wp-sync is there on older kernels.
bool DomainTracker::AllowsQuietTime() const noexcept { return domain_ == &WpAsyncDomain(); }

void DomainTracker::MarkDirty(Range pages) noexcept { domain_->MarkDirty(this, pages); }

Status DomainTracker::Follow(Range bytes) noexcept {
  const Range pages = bytes.RoundOutward(page_size_);
  // Only this changes them. What is new may be being loaded, and is registered with the load then.
  if (!pages_.Contains(pages)) HolderList::Get().FinishLoads(pages);
  return domain_->Follow(this, pages);
}

void DomainTracker::TakeWrites(WriteLog* log) noexcept { domain_->TakeWrites(this, log); }

}  // namespace uffd
