#include "core/tracking_domain.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace uffd {
namespace {

// To tell so many at once is cheaper than to put it down for them.
constexpr size_t kFewPeers = 16;

}  // namespace

std::optional<PageMarks::Unavailable> TrackingDomain::WhyUnavailable() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return marks_->WhyUnavailable();
}

Status TrackingDomain::Attach(DomainTracker* tracker) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto why = marks_->WhyUnavailable()) return why->failure;
  const Status covered = Cover(tracker->pages_, tracker->page_size_);
  if (!covered) return covered;
  trackers_.Insert(tracker->pages_, tracker);
  tracker->read_ = taken_.End();
  ConnectPeers(tracker);
  return Done{};
}

void TrackingDomain::Detach(DomainTracker* tracker) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  DisconnectPeers(tracker);
  trackers_.Erase(tracker->pages_, tracker);
  RangeSet pages;
  pages.Add(tracker->pages_);
  Uncover(std::move(pages));
}

Status TrackingDomain::Scan(DomainTracker* tracker, Rearm rearm, RangeSet* dirty) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  unread_.Clear();
  taken_.Read(&tracker->read_, tracker->pages_, &unread_);
  RangeSet written;
  // Into the room that the caller has.
  if (dirty->Empty()) std::swap(written, *dirty);
  const Status scanned = marks_->Written(tracker->pages_, rearm, &written);
  if (!scanned) {
    // EPERM: a part of the range is not ours any more (mapped anew). Whatever the error, the state
    // is unknown and some pages may be re-armed already: everything counts as written.
    written.Clear();
    written.Add(tracker->pages_);
  }
  if (rearm == Rearm::kNo) {
    tracker->pending_.AddAll(unread_);
    dirty->AddAll(std::move(written));
    dirty->AddAll(tracker->pending_);
    return Done{};
  }
  PassOn(tracker, &written);
  written.AddAll(unread_);
  WriteLog writes;
  marks_->TakeWrites(tracker->pages_, &writes);
  if (!writes.Empty()) {
    tracker->writes_.AddWithin(tracker->pages_, writes);
    for (DomainTracker* other : tracker->peers_) other->writes_.AddWithin(other->pages_, writes);
  }
  written.AddAll(tracker->pending_);
  if (!scanned) {
    RangeSet pages;
    pages.Add(tracker->pages_);
    const Status again = ArmAll(&pages, tracker->page_size_);
    if (!again) {
      tracker->pending_ = std::move(written);
      return again;
    }
  }
  tracker->pending_.Clear();
  dirty->AddAll(std::move(written));
  return Done{};
}

bool TrackingDomain::CollectPacked(DomainTracker* tracker, PackedPages* dirty) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!tracker->peers_.empty()) return false;
  // What those that are gone took.
  ReadTaken(tracker);
  if (!tracker->pending_.Empty()) return false;
  const Result<bool> collected = marks_->CollectPacked(tracker->pages_, dirty);
  // Some of it may be re-armed already.
  if (!collected) tracker->pending_.Add(tracker->pages_);
  return collected && collected.Value();
}

bool TrackingDomain::IsDirty(DomainTracker* tracker) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  ReadTaken(tracker);
  if (!tracker->pending_.Empty()) return true;
  const Result<bool> any = marks_->AnyWrittenWithHelp(tracker->pages_);
  return !any || any.Value();
}

// Telling the others allocates and the heap may be what is watched, so that is left to EndSettling.
// Until then nobody may collect: who wrote before its collect() finds that in it.
Status TrackingDomain::BeginSettling(size_t pages) noexcept {
  mutex_.lock();
  HaveAllRead();
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

Result<bool> TrackingDomain::Settle(DomainTracker* tracker, Range page) noexcept {
  const Result<bool> written = marks_->AnyWritten(page, Rearm::kYes);
  // A scan that failed may have re-armed the page all the same.
  settled_[settled_count_++] = {page, tracker, !written || written.Value()};
  return written;
}

// The caller compared the settled pages: what was noted of them before is answered by that.
Result<bool> TrackingDomain::AnyWritten(DomainTracker* tracker) noexcept {
  const bool noted = tracker->pending_.Any([this](const Range& range) {
    for (uint64_t start = range.start; start < range.end; start += PageSize()) {
      if (!IsSettled({start, start + PageSize()})) return true;
    }
    return false;
  });
  if (noted) return true;
  return marks_->AnyWritten(tracker->pages_, Rearm::kNo);
}

bool TrackingDomain::IsSettled(Range page) const noexcept {
  const Settled* const begin = settled_;
  const Settled* const end = begin + settled_count_;
  const Settled* const found =
      std::lower_bound(begin, end, page.start,
                       [](const Settled& each, uint64_t start) { return each.page.start < start; });
  return found != end && found->page.start == page.start;
}

void TrackingDomain::EndSettling() noexcept {
  for (size_t i = 0; i < settled_count_; i++) {
    const auto& [page, by, written] = settled_[i];
    if (!by->pending_.Empty()) by->pending_.Remove(page);
    if (!written) continue;
    for (DomainTracker* other : by->peers_) other->pending_.Add(page.Intersect(other->pages_));
  }
  mutex_.unlock();
}

void TrackingDomain::MarkDirty(DomainTracker* tracker, Range pages) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  tracker->pending_.Add(pages.Intersect(tracker->pages_));
}

Status TrackingDomain::Follow(DomainTracker* tracker, Range pages) noexcept {
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
    const Status covered = Cover(part, tracker->page_size_);
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
    tracker->writes_.Clear();
  } else {
    tracker->pending_ = tracker->pending_.Within(pages);
  }
  tracker->pending_.AddAll(added);
  ConnectPeers(tracker);
  Uncover(std::move(gone));
  return Done{};
}

void TrackingDomain::TakeWrites(DomainTracker* tracker, WriteLog* log) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  log->AddWithin(tracker->pages_, tracker->writes_);
  tracker->writes_.Clear();
}

Status TrackingDomain::Change(Range pages, const std::function<Status()>& change) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  Status changed = change();
  // Also when it failed: a part may be gone.
  marks_->NoteUnarmed(pages);
  for (DomainTracker* tracker : TrackersOn(pages)) {
    tracker->pending_.Add(pages.Intersect(tracker->pages_));
  }
  return changed;
}

bool TrackingDomain::Tracks(Range pages) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !TrackersOn(pages).empty();
}

Status TrackingDomain::HandOver(Range pages, const std::shared_ptr<PageKeeper>& keeper,
                                const std::function<Status(const RangeSet&)>& take) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::vector<DomainTracker*> trackers = TrackersOn(pages);
  RangeSet covered;
  for (const DomainTracker* tracker : trackers) covered.Add(tracker->pages_.Intersect(pages));
  RangeSet written;
  for (const Range& part : covered.Ranges()) {
    if (!marks_->Written(part, Rearm::kYes, &written)) written.Add(part);
  }
  PassOn(&written, trackers);
  for (const Range& part : covered.Ranges()) marks_->Disarm(part);
  Status taken = take(covered);
  for (const Range& part : covered.Ranges()) {
    if (taken) marks_->Entrust(part, keeper);
  }
  for (DomainTracker* tracker : trackers) {
    // Nobody watched meanwhile.
    if (!taken)
      static_cast<void>(marks_->Arm(tracker->pages_.Intersect(pages), tracker->page_size_).Ok());
    if (taken && tracker->ignores_loads_) continue;
    tracker->pending_.Add(pages.Intersect(tracker->pages_));
  }
  return taken;
}

void TrackingDomain::NoteLoaded(Range pages) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (DomainTracker* tracker : TrackersOn(pages)) {
    if (!tracker->ignores_loads_) tracker->pending_.Add(pages.Intersect(tracker->pages_));
  }
}

Status TrackingDomain::Cover(Range pages, uint64_t page_size) noexcept {
  const std::vector<DomainTracker*> present = TrackersOn(pages);
  RangeSet covered;
  for (const DomainTracker* other : present) covered.Add(other->pages_.Intersect(pages));
  RangeSet uncovered;
  uncovered.Add(pages);
  uncovered.RemoveAll(&covered);

  const Status armed = ArmAll(&uncovered, page_size);
  if (!armed) return armed;
  RangeSet written;
  for (const Range& part : covered.Ranges()) {
    if (marks_->Written(part, Rearm::kYes, &written)) continue;
    // The others must repair it at their next collect; the newcomer cannot trust it either.
    written.Add(part);
    RangeSet lost;
    lost.Add(part);
    const Status again = ArmAll(&lost, page_size);
    if (again) continue;
    PassOn(&written, present);
    Uncover(std::move(uncovered));
    return again;
  }
  PassOn(&written, present);
  return Done{};
}

Status TrackingDomain::ArmAll(RangeSet* pages, uint64_t page_size) noexcept {
  for (const Range& part : pages->Ranges()) {
    const Status armed = marks_->Arm(part, page_size);
    if (armed) continue;
    for (const Range& undo : pages->Ranges()) {
      if (undo.start >= part.start) break;
      marks_->Disarm(undo);
    }
    return armed;
  }
  return Done{};
}

void TrackingDomain::Uncover(RangeSet pages) noexcept {
  RangeSet used;
  for (const Range& part : pages.Ranges()) {
    trackers_.ForEachOverlapping(part,
                                 [&](const DomainTracker* other) { used.Add(other->pages_); });
  }
  pages.RemoveAll(&used);
  for (const Range& part : pages.Ranges()) marks_->Disarm(part);
}

void TrackingDomain::PassOn(RangeSet* written, const std::vector<DomainTracker*>& to) noexcept {
  if (written->Empty()) return;
  for (DomainTracker* other : to) other->pending_.AddWithin(other->pages_, written);
}

void TrackingDomain::PassOn(DomainTracker* by, RangeSet* written) noexcept {
  if (written->Empty()) return;
  if (by->peers_.size() <= kFewPeers) {
    PassOn(written, by->peers_);
    return;
  }
  if (!taken_.Put(written)) {
    HaveAllRead();
    if (!taken_.Put(written)) PassOn(written, by->peers_);
  }
  by->read_ = taken_.End();
}

void TrackingDomain::ReadTaken(DomainTracker* tracker) noexcept {
  taken_.Read(&tracker->read_, tracker->pages_, &tracker->pending_);
}

void TrackingDomain::HaveAllRead() noexcept {
  if (taken_.Empty()) return;
  trackers_.ForEachOverlapping(taken_.Hull(),
                               [this](DomainTracker* tracker) { ReadTaken(tracker); });
  taken_.Clear();
}

std::vector<DomainTracker*> TrackingDomain::TrackersOn(Range pages) const {
  std::vector<DomainTracker*> found;
  trackers_.ForEachOverlapping(pages, [&](DomainTracker* tracker) { found.push_back(tracker); });
  return found;
}

void TrackingDomain::ConnectPeers(DomainTracker* tracker) noexcept {
  for (DomainTracker* other : TrackersOn(tracker->pages_)) {
    if (other == tracker) continue;
    tracker->peers_.push_back(other);
    other->peers_.push_back(tracker);
  }
}

void TrackingDomain::DisconnectPeers(DomainTracker* tracker) noexcept {
  for (DomainTracker* other : tracker->peers_) std::erase(other->peers_, tracker);
  tracker->peers_.clear();
}

}  // namespace uffd
