// A tracker of shared memory that may be mapped several times: what is written through any of its
// mappings in this process is reported (test 46, B7). A mapping that was made since the last look
// may have been written before it was watched, and one that was closed since took with it what the
// kernel knew of its writes: all pages count as written then.
#ifndef UFFD_CORE_ALIASED_TRACKER_H_
#define UFFD_CORE_ALIASED_TRACKER_H_

#include <memory>
#include <vector>

#include "core/dirty_tracker.h"
#include "core/mapping.h"
#include "core/tracking_domain.h"

namespace uffd {

class AliasedTracker final : public DirtyTracker {
 public:
  // `bytes` lie in `memory`.
  static Result<std::unique_ptr<DirtyTracker>> Create(TrackingDomain* domain,
                                                      std::shared_ptr<Mapping> memory, Range bytes,
                                                      uint64_t page_size) noexcept;

  Status Collect(RangeSet* dirty) noexcept override;
  bool CollectPacked(PackedPages* dirty) noexcept override;
  Status Peek(RangeSet* dirty) noexcept override;
  // All of one domain.
  Status BeginSettling(size_t pages) noexcept override { return main_->BeginSettling(pages); }
  void EndSettling() noexcept override { main_->EndSettling(); }
  Result<bool> Settle(Range page) noexcept override;
  Result<bool> AnyWritten() noexcept override;
  bool IsDirty() noexcept override;
  bool AllowsQuietTime() const noexcept override { return main_->AllowsQuietTime(); }
  void MarkDirty(Range pages) noexcept override;
  Status Follow(Range bytes) noexcept override;
  void IgnoreLoads() noexcept override { main_->IgnoreLoads(); }
  void TakeWrites(WriteLog* log) noexcept override;

 private:
  struct Alias {
    std::shared_ptr<Mapping> mapping;
    std::unique_ptr<DirtyTracker> tracker;
  };
  using Look = Status (DirtyTracker::*)(RangeSet*) noexcept;

  AliasedTracker(TrackingDomain* domain, std::shared_ptr<Mapping> memory, Range bytes,
                 uint64_t page_size) noexcept;
  Range Pages() const noexcept { return bytes_.RoundOutward(page_size_); }
  // Tracks the mappings that there are now.
  Status FindAliases() noexcept;
  Status LookAtAll(Look look, RangeSet* dirty) noexcept;

  TrackingDomain* const domain_;
  const std::shared_ptr<Mapping> memory_;
  Range bytes_;
  const uint64_t page_size_;
  std::unique_ptr<DirtyTracker> main_;
  std::vector<Alias> aliases_;
  uint64_t gone_ = 0;  // mappings that there were once, as of the last look
  RangeSet pending_;   // collected, and not handed over yet
};

}  // namespace uffd

#endif  // UFFD_CORE_ALIASED_TRACKER_H_
