// The process's one asynchronous userfaultfd, shared by all `wp-async` trackers.
//
// The kernel keeps one written-bit per page and a collect consumes it. Where trackers share a page
// (two over one memory, or two buffers that lie in one page) each collect therefore passes what it
// took on to the others, and every tracker sees every write once (test 21, B19).
#ifndef UFFD_CORE_WP_ASYNC_DOMAIN_H_
#define UFFD_CORE_WP_ASYNC_DOMAIN_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/mapping.h"
#include "core/pagemap.h"
#include "core/range_index.h"
#include "core/userfaultfd.h"
#include "core/wp_async_tracker.h"

namespace uffd {

// A descriptor for asynchronous tracking, by the least privileged way that works.
Userfaultfd::Opened OpenAsyncTracking() noexcept;

class WpAsyncDomain {
 public:
  static WpAsyncDomain& Get() noexcept;  // never destroyed

  std::optional<WpAsyncTracker::Unavailable> WhyUnavailable() noexcept;
  Status Attach(WpAsyncTracker* tracker) noexcept;
  void Detach(WpAsyncTracker* tracker) noexcept;
  Status Scan(WpAsyncTracker* tracker, Pagemap::Rearm rearm, RangeSet* dirty) noexcept;
  // See DirtyTracker. Settle and AnyWritten are called between these two, by the same thread.
  Status BeginSettling(size_t pages) noexcept;
  void EndSettling() noexcept;
  Result<bool> Settle(WpAsyncTracker* tracker, Range page) noexcept;
  Result<bool> AnyWritten(WpAsyncTracker* tracker) noexcept;
  void MarkDirty(WpAsyncTracker* tracker, Range pages) noexcept;
  Status Follow(WpAsyncTracker* tracker, Range pages) noexcept;
  // Runs `change`, by which pages lose their content without a write: the kernel does not report
  // that for shared memory and files. No scan comes in between, and every tracker of the pages
  // reports them.
  Status Change(Range pages, const std::function<Status()>& change) noexcept;

 private:
  WpAsyncDomain() = default;
  std::optional<WpAsyncTracker::Unavailable> EnsureOpen() noexcept;
  // Registers and arms the parts of `pages` that no tracker covers yet, and consumes what was
  // written in the others, so that a newcomer starts clean. All or nothing.
  Status Cover(Range pages) noexcept;
  void Uncover(RangeSet pages) noexcept;
  Status RegisterAndArm(RangeSet* pages) noexcept;
  void PassOn(RangeSet* written, const std::vector<WpAsyncTracker*>& to) noexcept;
  std::vector<WpAsyncTracker*> TrackersOn(Range pages) const;
  void ConnectPeers(WpAsyncTracker* tracker) noexcept;
  void DisconnectPeers(WpAsyncTracker* tracker) noexcept;

  std::mutex mutex_;
  Userfaultfd uffd_;
  std::optional<Pagemap> pagemap_;
  RangeIndex<WpAsyncTracker*> trackers_;

  // What was settled since BeginSettling, ascending: in pages of our own, for the heap may be what
  // is watched.
  struct Settled {
    Range page;
    WpAsyncTracker* by;
    bool written;
  };
  bool IsSettled(Range page) const noexcept;
  std::shared_ptr<Mapping> settled_memory_;
  Settled* settled_ = nullptr;
  size_t settled_count_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_WP_ASYNC_DOMAIN_H_
