// Mode copy-on-write: from arming to tracking.
#include <algorithm>
#include <utility>

#include "core/capture_tracker.h"
#include "core/lost_pages.h"
#include "core/snapshot.h"
#include "core/test_barrier.h"

namespace uffd {

Snapshot::Taken Snapshot::TakeCopyOnWrite(const std::vector<Source>& memories,
                                          const CopyOnWrite::Options& options, Trackers trackers,
                                          std::function<void()> settled) noexcept {
  Taken taken;
  std::unique_ptr<Snapshot> snapshot(new Snapshot());
  std::vector<CopyOnWrite::Part> parts;
  for (const Source& source : memories) {
    const Status readable = LostPages::Get().Check(source.bytes);
    if (!readable) {
      taken.failure = readable.Error();
      return taken;
    }
    auto copy = Mapping::Anonymous(std::max(source.bytes.Length(), PageSize()));
    if (!copy) {
      taken.failure = copy.Error();
      return taken;
    }
    parts.push_back({{source.bytes, source.page_size, source.mapping}, copy.Value()});
    Memory memory;
    memory.taken = source.bytes;
    memory.page_size = source.page_size;
    memory.copy = std::move(copy.Value());
    snapshot->memories_.push_back(std::move(memory));
  }
  CopyOnWrite::Started started = CopyOnWrite::Start(std::move(parts), options);
  taken.attempts = std::move(started.attempts);
  taken.missing_features = started.missing_features;
  taken.failure = started.failure;
  if (started.capturing == nullptr) return taken;
  snapshot->capturing_ = std::move(started.capturing);
  for (size_t i = 0; i < memories.size(); i++) {
    Memory& memory = snapshot->memories_[i];
    memory.capture = snapshot->capturing_->At(i);
    memory.tracker = std::make_unique<CaptureTracker>(memory.capture);
    memory.tracked_by_writes = true;
  }
  snapshot->trackers_ = trackers;
  snapshot->when_settled_ = std::move(settled);
  snapshot->settled_ = false;
  const Status sweeping = snapshot->capturing_->Sweep([self = snapshot.get()] { self->Settle(); });
  if (!sweeping) {
    taken.failure = sweeping.Error();
    return taken;
  }
  taken.snapshot = std::move(snapshot);
  return taken;
}

Snapshot::~Snapshot() { closing_ = true; }

Status Snapshot::Health() const noexcept {
  int error = failed_.load();
  if (error == 0 && !settled_) error = capturing_->Error();
  if (error != 0) return Failure{error, "snapshot"};
  return Done{};
}

Cut::Progress Snapshot::Progress() const noexcept {
  return capturing_ != nullptr ? capturing_->Progress() : Cut::Progress{};
}

// On the sweep's thread. What was written while nobody watched, between the release and the new
// tracker, differs from the copy: the comparison finds it (test 64).
void Snapshot::Settle() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    failed_ = capturing_->Error();
    UFFD_BARRIER("settle-before-release", nullptr);
    capturing_->Release();
    UFFD_BARRIER("settle-after-release", nullptr);
    for (Memory& memory : memories_) {
      if (failed_ != 0) break;
      const Status tracked = TrackCaptured(&memory);
      if (!tracked) failed_ = tracked.Error().error;
    }
    capturing_->Leave();
    settled_ = true;
  }
  when_settled_();
  for (Memory& memory : memories_) {
    for (bool more = failed_ == 0; more && !closing_;) {
      const std::lock_guard<std::mutex> lock(mutex_);
      more = VerifySome(&memory);
    }
  }
}

Status Snapshot::TrackCaptured(Memory* memory) noexcept {
  if (trackers_.by_writes != nullptr) {
    auto tracker = trackers_.by_writes(memory->taken, memory->page_size, memory->copy);
    if (tracker) {
      RangeSet written;
      memory->capture->Written(&written);
      for (const Range& pages : written.Ranges()) tracker.Value()->MarkDirty(pages);
      memory->tracker = std::move(tracker.Value());
      return Done{};
    }
  }
  auto tracker = trackers_.by_bytes(memory->taken, memory->page_size, memory->copy);
  if (!tracker) return tracker.Error();
  memory->tracker = std::move(tracker.Value());
  memory->tracked_by_writes = false;
  memory->verified = memory->capture->PageCount();
  return Done{};
}

// Compares some more pages with their copies: false when all are.
bool Snapshot::VerifySome(Memory* memory) noexcept {
  const Capture& capture = *memory->capture;
  if (memory->verified == capture.PageCount()) return false;
  RangeSet different;
  memory->verified += memory->capture->AddDifferent(memory->verified, &different);
  for (const Range& pages : different.Ranges()) memory->tracker->MarkDirty(pages);
  return true;
}

Status Snapshot::Prepare() noexcept {
  if (capturing_ == nullptr) return Done{};
  if (!settled_) {
    capturing_->AwaitEvents();
    return Health();
  }
  if (failed_ != 0) return Health();
  for (Memory& memory : memories_) {
    while (VerifySome(&memory)) {
    }
  }
  return Done{};
}

}  // namespace uffd
