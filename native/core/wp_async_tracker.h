// The `wp-async` engine: the kernel itself notes the first write to each armed page
// (UFFD_FEATURE_WP_ASYNC), PAGEMAP_SCAN reads and re-arms them in one step. No thread, no
// privilege.
#ifndef UFFD_CORE_WP_ASYNC_TRACKER_H_
#define UFFD_CORE_WP_ASYNC_TRACKER_H_

#include <memory>
#include <optional>
#include <vector>

#include "core/dirty_tracker.h"
#include "core/userfaultfd.h"

namespace uffd {

class WpAsyncTracker final : public DirtyTracker {
 public:
  // What stands in the way of this engine on this machine, if anything.
  struct Unavailable {
    Failure failure;
    std::vector<Attempt> attempts;
    uint64_t missing_features = 0;
  };
  // Nothing when the engine works. Opens the process's descriptor when called first.
  static std::optional<Unavailable> WhyUnavailable() noexcept;

  // `page_size`: of the memory. EBUSY: another userfaultfd has a part of it.
  static Result<std::unique_ptr<DirtyTracker>> Create(Range bytes, uint64_t page_size) noexcept;
  ~WpAsyncTracker() override;
  WpAsyncTracker(const WpAsyncTracker&) = delete;
  WpAsyncTracker& operator=(const WpAsyncTracker&) = delete;

  Status Collect(RangeSet* dirty) noexcept override;
  Status Peek(RangeSet* dirty) noexcept override;
  Status BeginSettling(size_t pages) noexcept override;
  void EndSettling() noexcept override;
  Result<bool> Settle(Range page) noexcept override;
  Result<bool> AnyWritten() noexcept override;
  void MarkDirty(Range pages) noexcept override;
  Status Follow(Range bytes) noexcept override;

 private:
  friend class WpAsyncDomain;
  WpAsyncTracker(Range pages, uint64_t page_size) noexcept : page_size_(page_size), pages_(pages) {}

  bool attached_ = false;
  const uint64_t page_size_;
  // The rest is guarded by the domain's lock.
  Range pages_;
  RangeSet pending_;  // written, but taken from the kernel by a tracker that shares these pages
  std::vector<WpAsyncTracker*> peers_;  // trackers that share pages with this one
};

}  // namespace uffd

#endif  // UFFD_CORE_WP_ASYNC_TRACKER_H_
