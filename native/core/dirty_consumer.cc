#include "core/dirty_consumer.h"

#include <utility>

namespace uffd {
namespace {

// A set whose memory was that of the last one, whichever tracker's that was: fresh memory costs
// page faults for as much as it holds.
class Recycled {
 public:
  Recycled() = default;
  ~Recycled() {
    if (set.Room() > kKeptRoom) set = RangeSet();
    set.Clear();
  }
  Recycled(const Recycled&) = delete;
  Recycled& operator=(const Recycled&) = delete;
  RangeSet* Set() noexcept { return &set; }

 private:
  // Ranges, of 16 bytes each: room for more is not kept.
  static constexpr size_t kKeptRoom = 65536;
  static thread_local RangeSet set;
};

thread_local RangeSet Recycled::set;

}  // namespace

Result<std::unique_ptr<DirtyConsumer>> DirtyConsumer::Open(
    DirtyEngine engine, Range bytes, uint64_t page_size,
    const std::shared_ptr<Mapping>& memory) noexcept {
  Result<std::unique_ptr<DirtyTracker>> tracker =
      CreateDirtyTracker(engine, bytes, page_size, memory);
  if (!tracker) return tracker.Error();
  tracker.Value()->IgnoreLoads();
  auto shared = std::make_shared<Shared>();
  shared->tracker = std::move(tracker.Value());
  shared->bytes = bytes;
  shared->page_size = page_size;
  return std::unique_ptr<DirtyConsumer>(new DirtyConsumer(std::move(shared)));
}

Result<std::unique_ptr<DirtyConsumer>> DirtyConsumer::Another(Range now) noexcept {
  const Status followed = Follow(now);
  if (!followed) return followed.Error();
  RangeSet fresh;
  const Status taken = Share(&fresh);
  if (!taken) return taken.Error();
  pending_.AddAll(std::move(fresh));
  return std::unique_ptr<DirtyConsumer>(new DirtyConsumer(shared_));
}

DirtyConsumer::DirtyConsumer(std::shared_ptr<Shared> shared) noexcept : shared_(std::move(shared)) {
  shared_->consumers.push_back(this);
}

DirtyConsumer::~DirtyConsumer() { std::erase(shared_->consumers, this); }

Status DirtyConsumer::Collect(Range now, PackedPages* dirty) noexcept {
  const Status followed = Follow(now);
  if (!followed) return followed;
  if (shared_->consumers.size() == 1 && pending_.Empty()) {
    dirty->Begin(shared_->bytes, shared_->page_size);
    if (shared_->tracker->CollectPacked(dirty)) return Done{};
  }
  Recycled recycled;
  RangeSet* const set = recycled.Set();
  const Status taken = Share(set);
  if (!taken) return taken;
  Pack(set, dirty);
  pending_.Clear();
  return Done{};
}

Status DirtyConsumer::Peek(Range now, PackedPages* dirty) noexcept {
  const Status followed = Follow(now);
  if (!followed) return followed;
  Recycled recycled;
  RangeSet* const set = recycled.Set();
  const Status peeked = shared_->tracker->Peek(set);
  if (!peeked) return peeked;
  Pack(set, dirty);
  return Done{};
}

void DirtyConsumer::Pack(RangeSet* found, PackedPages* dirty) const noexcept {
  found->AddAll(pending_);
  dirty->Begin(shared_->bytes, shared_->page_size);
  dirty->Add(found);
}

WriteLog DirtyConsumer::TakeWrites() noexcept { return std::exchange(writes_, WriteLog()); }

Status DirtyConsumer::Share(RangeSet* fresh) noexcept {
  const Status taken = shared_->tracker->Collect(fresh);
  if (!taken) return taken;
  WriteLog writes;
  shared_->tracker->TakeWrites(&writes);
  for (DirtyConsumer* each : shared_->consumers) {
    if (each != this) each->pending_.AddAll(*fresh);
    each->writes_.AddWithin(Pages(), writes);
  }
  return Done{};
}

Status DirtyConsumer::Follow(Range now) noexcept {
  const Range before = shared_->bytes;
  if (now.start == before.start && now.end == before.end) return Done{};
  const Status followed = shared_->tracker->Follow(now);
  if (!followed) return followed;
  shared_->bytes = now;
  for (DirtyConsumer* each : shared_->consumers) {
    // The tracker reports all of memory that moved.
    each->pending_ = now.start == before.start ? each->pending_.Within(Pages()) : RangeSet();
    if (now.start != before.start) each->writes_.Clear();
  }
  // Growth inside the last page: its bytes are new although the page is not.
  if (now.start == before.start && now.end > before.end && before.end % shared_->page_size != 0) {
    MarkDirty({before.end, before.end + 1});
  }
  return Done{};
}

void DirtyConsumer::MarkDirty(Range bytes) noexcept {
  const Range pages = bytes.RoundOutward(shared_->page_size).Intersect(Pages());
  for (DirtyConsumer* each : shared_->consumers) each->pending_.Add(pages);
}

void DirtyConsumer::PutBack(Range bytes) noexcept {
  pending_.Add(bytes.RoundOutward(shared_->page_size).Intersect(Pages()));
}

}  // namespace uffd
