#include "core/wp_async_domain.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <new>
#include <utility>

namespace uffd {

WpAsyncDomain& WpAsyncDomain::Get() noexcept {
  // Not on the heap: its lock is written while pages of the heap are watched for writes (Settle).
  alignas(WpAsyncDomain) static std::byte storage[sizeof(WpAsyncDomain)];
  static auto* domain = new (storage) WpAsyncDomain();
  return *domain;
}

Userfaultfd::Opened OpenAsyncTracking() noexcept {
  OpenRequest request;
  request.required_features =
      UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC;
  request.optional_features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  // No fault ever reaches user space, so the least privileged descriptor does.
  request.user_mode = UserMode::kOnly;
  Userfaultfd::Opened opened = Userfaultfd::Open(request);
  if (opened.failure.error == 0 || opened.missing_features != 0) return opened;
  // A container may refuse the system call and pass the device.
  request.user_mode = UserMode::kNever;
  Userfaultfd::Opened privileged = Userfaultfd::Open(request);
  privileged.attempts.insert(privileged.attempts.begin(), opened.attempts.begin(),
                             opened.attempts.end());
  return privileged;
}

std::optional<WpAsyncTracker::Unavailable> WpAsyncDomain::WhyUnavailable() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return EnsureOpen();
}

// Tried again at each call until it works: what was in the way (no descriptor left, say) may be
// gone.
std::optional<WpAsyncTracker::Unavailable> WpAsyncDomain::EnsureOpen() noexcept {
  if (pagemap_) return std::nullopt;
  Userfaultfd::Opened opened = OpenAsyncTracking();
  if (opened.failure.error != 0) {
    return WpAsyncTracker::Unavailable{opened.failure, std::move(opened.attempts),
                                       opened.missing_features};
  }
  Result<Pagemap> pagemap = Pagemap::Create();
  if (!pagemap) return WpAsyncTracker::Unavailable{pagemap.Error(), std::move(opened.attempts), 0};
  uffd_ = std::move(opened.uffd);
  pagemap_ = std::move(pagemap.Value());
  return std::nullopt;
}

Status WpAsyncDomain::Attach(WpAsyncTracker* tracker) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto why = EnsureOpen()) return why->failure;
  const Status covered = Cover(tracker->pages_);
  if (!covered) return covered;
  trackers_.Insert(tracker->pages_, tracker);
  ConnectPeers(tracker);
  return Done{};
}

void WpAsyncDomain::Detach(WpAsyncTracker* tracker) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  DisconnectPeers(tracker);
  trackers_.Erase(tracker->pages_, tracker);
  RangeSet pages;
  pages.Add(tracker->pages_);
  Uncover(std::move(pages));
}

Status WpAsyncDomain::Scan(WpAsyncTracker* tracker, Pagemap::Rearm rearm,
                           RangeSet* dirty) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  RangeSet written;
  const Status scanned = pagemap_->Written(tracker->pages_, rearm, &written);
  if (!scanned) {
    // EPERM: a part of the range is not ours any more (mapped anew). Whatever the error, the state
    // is unknown and some pages may be re-armed already: everything counts as written.
    written.Clear();
    written.Add(tracker->pages_);
  }
  if (rearm == Pagemap::Rearm::kNo) {
    dirty->AddAll(std::move(written));
    dirty->AddAll(tracker->pending_);
    return Done{};
  }
  PassOn(&written, tracker->peers_);
  written.AddAll(tracker->pending_);
  if (!scanned) {
    RangeSet pages;
    pages.Add(tracker->pages_);
    const Status again = RegisterAndArm(&pages);
    if (!again) {
      tracker->pending_ = std::move(written);
      return again;
    }
  }
  tracker->pending_.Clear();
  dirty->AddAll(std::move(written));
  return Done{};
}

// Telling the others allocates and the heap may be what is watched, so that is left to EndSettling.
// Until then nobody may collect: who wrote before its collect() finds that in it.
Status WpAsyncDomain::BeginSettling(size_t pages) noexcept {
  mutex_.lock();
  settled_count_ = 0;
  const uint64_t needed = pages * sizeof(Settled);
  if (settled_memory_ && settled_memory_->Bytes() >= needed) return Done{};
  Result<std::shared_ptr<Mapping>> memory = Mapping::Anonymous(needed);
  if (!memory) {
    mutex_.unlock();
    return memory.Error();
  }
  settled_memory_ = std::move(memory.Value());
  settled_ = reinterpret_cast<Settled*>(settled_memory_->Data());
  return Done{};
}

Result<bool> WpAsyncDomain::Settle(WpAsyncTracker* tracker, Range page) noexcept {
  const Result<bool> written = pagemap_->AnyWritten(page, Pagemap::Rearm::kYes);
  // A scan that failed may have re-armed the page all the same.
  settled_[settled_count_++] = {page, tracker, !written || written.Value()};
  return written;
}

// The caller compared the settled pages: what was noted of them before is answered by that.
Result<bool> WpAsyncDomain::AnyWritten(WpAsyncTracker* tracker) noexcept {
  const bool noted = tracker->pending_.Any([this](const Range& range) {
    for (uint64_t start = range.start; start < range.end; start += PageSize()) {
      if (!IsSettled({start, start + PageSize()})) return true;
    }
    return false;
  });
  if (noted) return true;
  return pagemap_->AnyWritten(tracker->pages_, Pagemap::Rearm::kNo);
}

bool WpAsyncDomain::IsSettled(Range page) const noexcept {
  const Settled* const begin = settled_;
  const Settled* const end = begin + settled_count_;
  const Settled* const found =
      std::lower_bound(begin, end, page.start,
                       [](const Settled& each, uint64_t start) { return each.page.start < start; });
  return found != end && found->page.start == page.start;
}

void WpAsyncDomain::EndSettling() noexcept {
  for (size_t i = 0; i < settled_count_; i++) {
    const auto& [page, by, written] = settled_[i];
    if (!by->pending_.Empty()) by->pending_.Remove(page);
    if (!written) continue;
    for (WpAsyncTracker* other : by->peers_) other->pending_.Add(page.Intersect(other->pages_));
  }
  mutex_.unlock();
}

void WpAsyncDomain::MarkDirty(WpAsyncTracker* tracker, Range pages) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  tracker->pending_.Add(pages.Intersect(tracker->pages_));
}

Status WpAsyncDomain::Follow(WpAsyncTracker* tracker, Range pages) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Range before = tracker->pages_;
  RangeSet added;
  added.Add(pages);
  RangeSet gone;
  gone.Add(before);
  const bool moved = pages.start != before.start;
  if (!moved) {
    added.Remove(before);
    gone.Remove(pages);
  }
  for (const Range& part : added.Ranges()) {
    const Status covered = Cover(part);
    if (covered) continue;
    Uncover(std::move(added));
    return covered;
  }
  DisconnectPeers(tracker);
  trackers_.Erase(before, tracker);
  tracker->pages_ = pages;
  trackers_.Insert(pages, tracker);
  if (moved) {
    tracker->pending_.Clear();
  } else {
    tracker->pending_ = tracker->pending_.Within(pages);
  }
  tracker->pending_.AddAll(added);
  ConnectPeers(tracker);
  Uncover(std::move(gone));
  return Done{};
}

Status WpAsyncDomain::Change(Range pages, const std::function<Status()>& change) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  Status changed = change();
  // Also when it failed: a part may be gone.
  for (WpAsyncTracker* tracker : TrackersOn(pages)) {
    tracker->pending_.Add(pages.Intersect(tracker->pages_));
  }
  return changed;
}

Status WpAsyncDomain::Cover(Range pages) noexcept {
  const std::vector<WpAsyncTracker*> present = TrackersOn(pages);
  RangeSet covered;
  for (const WpAsyncTracker* other : present) covered.Add(other->pages_.Intersect(pages));
  RangeSet uncovered;
  uncovered.Add(pages);
  uncovered.RemoveAll(&covered);

  const Status armed = RegisterAndArm(&uncovered);
  if (!armed) return armed;
  RangeSet written;
  for (const Range& part : covered.Ranges()) {
    if (pagemap_->Written(part, Pagemap::Rearm::kYes, &written)) continue;
    // The others must repair it at their next collect; the newcomer cannot trust it either.
    written.Add(part);
    RangeSet lost;
    lost.Add(part);
    const Status again = RegisterAndArm(&lost);
    if (again) continue;
    PassOn(&written, present);
    Uncover(std::move(uncovered));
    return again;
  }
  PassOn(&written, present);
  return Done{};
}

Status WpAsyncDomain::RegisterAndArm(RangeSet* pages) noexcept {
  for (const Range& part : pages->Ranges()) {
    const Result<uint64_t> registered = uffd_.Register(part, UFFDIO_REGISTER_MODE_WP);
    const Status armed = registered ? uffd_.WriteProtect(part, UFFDIO_WRITEPROTECT_MODE_WP)
                                    : Status(registered.Error());
    if (armed) continue;
    // Only what is ours: a part that could not be registered may be another userfaultfd's, and
    // kernels before 6.17 let anybody unregister that.
    for (const Range& undo : pages->Ranges()) {
      if (undo.start > part.start || (undo.start == part.start && !registered)) break;
      static_cast<void>(uffd_.Unregister(undo).Ok());
    }
    return armed;
  }
  return Done{};
}

void WpAsyncDomain::Uncover(RangeSet pages) noexcept {
  RangeSet used;
  for (const Range& part : pages.Ranges()) {
    trackers_.ForEachOverlapping(part,
                                 [&](const WpAsyncTracker* other) { used.Add(other->pages_); });
  }
  pages.RemoveAll(&used);
  for (const Range& part : pages.Ranges()) static_cast<void>(uffd_.Unregister(part).Ok());
}

void WpAsyncDomain::PassOn(RangeSet* written, const std::vector<WpAsyncTracker*>& to) noexcept {
  for (WpAsyncTracker* other : to) other->pending_.AddAll(written->Within(other->pages_));
}

std::vector<WpAsyncTracker*> WpAsyncDomain::TrackersOn(Range pages) const {
  std::vector<WpAsyncTracker*> found;
  trackers_.ForEachOverlapping(pages, [&](WpAsyncTracker* tracker) { found.push_back(tracker); });
  return found;
}

void WpAsyncDomain::ConnectPeers(WpAsyncTracker* tracker) noexcept {
  for (WpAsyncTracker* other : TrackersOn(tracker->pages_)) {
    if (other == tracker) continue;
    tracker->peers_.push_back(other);
    other->peers_.push_back(tracker);
  }
}

void WpAsyncDomain::DisconnectPeers(WpAsyncTracker* tracker) noexcept {
  for (WpAsyncTracker* other : tracker->peers_) std::erase(other->peers_, tracker);
  tracker->peers_.clear();
}

}  // namespace uffd
