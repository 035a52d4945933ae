// A tracker of pages that may be other trackers' too: those of one TrackingDomain share what the
// kernel tells once.
#ifndef UFFD_CORE_DOMAIN_TRACKER_H_
#define UFFD_CORE_DOMAIN_TRACKER_H_

#include <atomic>
#include <memory>
#include <vector>

#include "core/dirty_tracker.h"
#include "core/taken_pages.h"
#include "core/write_log.h"

namespace uffd {

class TrackingDomain;

class DomainTracker final : public DirtyTracker {
 public:
  // `page_size`: of the memory. EBUSY: another userfaultfd has a part of it.
  static Result<std::unique_ptr<DirtyTracker>> Create(TrackingDomain* domain, Range bytes,
                                                      uint64_t page_size) noexcept;
  ~DomainTracker() override;
  DomainTracker(const DomainTracker&) = delete;
  DomainTracker& operator=(const DomainTracker&) = delete;

  Status Collect(RangeSet* dirty) noexcept override;
  bool CollectPacked(PackedPages* dirty) noexcept override;
  Status Peek(RangeSet* dirty) noexcept override;
  Status BeginSettling(size_t pages) noexcept override;
  void EndSettling() noexcept override;
  Result<bool> Settle(Range page) noexcept override;
  Result<bool> AnyWritten() noexcept override;
  bool IsDirty() noexcept override;
  bool AllowsQuietTime() const noexcept override;
  void MarkDirty(Range pages) noexcept override;
  Status Follow(Range bytes) noexcept override;
  void IgnoreLoads() noexcept override { ignores_loads_ = true; }
  void TakeWrites(WriteLog* log) noexcept override;

 private:
  friend class TrackingDomain;
  DomainTracker(TrackingDomain* domain, Range pages, uint64_t page_size) noexcept
      : domain_(domain), pages_(pages), page_size_(page_size) {}

  TrackingDomain* const domain_;
  // Guarded by the domain's lock, and in the order in which a collect reads it: with a thousand
  // trackers it is not in the caches.
  Range pages_;
  std::vector<DomainTracker*> peers_;  // trackers that share pages with this one
  TakenPages::Position read_ = 0;      // how far it has read the domain's taken pages
  RangeSet pending_;                   // for the next collect: what peers took, or was marked
  WriteLog writes_;                    // to the pages it collected

  const uint64_t page_size_;
  bool attached_ = false;
  std::atomic<bool> ignores_loads_{false};
};

}  // namespace uffd

#endif  // UFFD_CORE_DOMAIN_TRACKER_H_
