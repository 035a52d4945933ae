// All trackers of one engine in this process, over the one userfaultfd they share.
//
// The engine's marks hold one written-bit per page and a collect consumes it. Where trackers share
// a page (two over one memory, or two buffers that lie in one page) each collect therefore passes
// what it took on to the others, and every tracker sees every write once (test 50, B19).
#ifndef UFFD_CORE_TRACKING_DOMAIN_H_
#define UFFD_CORE_TRACKING_DOMAIN_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/domain_tracker.h"
#include "core/mapping.h"
#include "core/page_marks.h"
#include "core/range_index.h"
#include "core/taken_pages.h"

namespace uffd {

class TrackingDomain {
 public:
  using Rearm = PageMarks::Rearm;

  // `marks` lives as long as the domain, which is never destroyed. Not on the heap, either of them:
  // the lock is written while pages of the heap are watched for writes (Settle).
  explicit TrackingDomain(PageMarks* marks) noexcept : marks_(marks) {}
  TrackingDomain(const TrackingDomain&) = delete;
  TrackingDomain& operator=(const TrackingDomain&) = delete;

  std::optional<PageMarks::Unavailable> WhyUnavailable() noexcept;
  Status Attach(DomainTracker* tracker) noexcept;
  void Detach(DomainTracker* tracker) noexcept;
  Status Scan(DomainTracker* tracker, Rearm rearm, RangeSet* dirty) noexcept;
  // See DirtyTracker.
  bool CollectPacked(DomainTracker* tracker, PackedPages* dirty) noexcept;
  bool IsDirty(DomainTracker* tracker) noexcept;
  // See DirtyTracker. Settle and AnyWritten are called between these two, by the same thread.
  Status BeginSettling(size_t pages) noexcept;
  void EndSettling() noexcept;
  Result<bool> Settle(DomainTracker* tracker, Range page) noexcept;
  Result<bool> AnyWritten(DomainTracker* tracker) noexcept;
  void MarkDirty(DomainTracker* tracker, Range pages) noexcept;
  Status Follow(DomainTracker* tracker, Range pages) noexcept;
  void TakeWrites(DomainTracker* tracker, WriteLog* log) noexcept;
  // Runs `change`, by which pages lose their content without a write: the kernel does not report
  // that for shared memory and files. No scan comes in between, and every tracker of the pages
  // reports them.
  Status Change(Range pages, const std::function<Status()>& change) noexcept;
  // Whether any of them is tracked.
  bool Tracks(Range pages) noexcept;
  // Memory that `take` registers for itself, in order to load it: what is tracked of it is in
  // `keeper`'s hands from there on. What was written before is told at the next collect; what is
  // loaded, only to those who ask (DirtyTracker::IgnoreLoads).
  Status HandOver(Range pages, const std::shared_ptr<PageKeeper>& keeper,
                  const std::function<Status(const RangeSet& tracked)>& take) noexcept;
  // They have other content now. Those who ask for loads may have come, or collected, meanwhile.
  void NoteLoaded(Range pages) noexcept;

 private:
  // Registers and arms the parts of `pages` that no tracker covers yet, and consumes what was
  // written in the others, so that a newcomer starts clean. All or nothing.
  Status Cover(Range pages, uint64_t page_size) noexcept;
  void Uncover(RangeSet pages) noexcept;
  Status ArmAll(RangeSet* pages, uint64_t page_size) noexcept;
  static void PassOn(RangeSet* written, const std::vector<DomainTracker*>& to) noexcept;
  // What `by` took, which has read what the others took.
  void PassOn(DomainTracker* by, RangeSet* written) noexcept;
  void ReadTaken(DomainTracker* tracker) noexcept;
  void HaveAllRead() noexcept;
  std::vector<DomainTracker*> TrackersOn(Range pages) const;
  void ConnectPeers(DomainTracker* tracker) noexcept;
  void DisconnectPeers(DomainTracker* tracker) noexcept;

  std::mutex mutex_;
  PageMarks* const marks_;
  RangeIndex<DomainTracker*> trackers_;
  TakenPages taken_;
  // What a tracker has to read of it, in room that is in the caches: those of a thousand are not.
  RangeSet unread_;

  // What was settled since BeginSettling, ascending: in pages of our own, for the heap may be what
  // is watched.
  struct Settled {
    Range page;
    DomainTracker* by;
    bool written;
  };
  bool IsSettled(Range page) const noexcept;
  std::shared_ptr<Mapping> settled_memory_;
  Settled* settled_ = nullptr;
  size_t settled_count_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_TRACKING_DOMAIN_H_
