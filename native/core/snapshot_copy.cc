// Mode copy: all is copied before Take returns, and again what was written meanwhile.
#include <algorithm>
#include <cstring>
#include <utility>

#include "core/compare.h"
#include "core/consistent_copy.h"
#include "core/cut.h"
#include "core/dirty_engine.h"
#include "core/holder_list.h"
#include "core/lost_pages.h"
#include "core/populated_pages.h"
#include "core/snapshot.h"

namespace uffd {
namespace {

// Memory of so many pages is worth asking which of them exist.
constexpr uint64_t kLong = 64;

uint8_t* Pointer(uint64_t address) noexcept { return reinterpret_cast<uint8_t*>(address); }

}  // namespace

// For the bytes of pages that are not zero.
class Snapshot::Room {
 public:
  explicit Room(uint64_t bytes) noexcept : left_(bytes) {}

  Status Take(uint64_t bytes) noexcept {
    if (bytes > left_) return Failure{Cut::kLimit, "snapshot"};
    left_ -= bytes;
    return Done{};
  }
  void GiveBack(uint64_t bytes) noexcept { left_ += bytes; }

 private:
  uint64_t left_;
};

Result<std::unique_ptr<Snapshot>> Snapshot::Take(const std::vector<Source>& memories,
                                                 TrackerFactory track,
                                                 uint64_t most_bytes) noexcept {
  std::unique_ptr<Snapshot> snapshot(new Snapshot());
  for (const Source& source : memories) {
    const Range pages = source.bytes.RoundOutward(PageSize());
    Result<std::shared_ptr<Mapping>> copy =
        Mapping::Anonymous(std::max(pages.Length(), PageSize()));
    if (!copy) return copy.Error();
    Result<std::unique_ptr<DirtyTracker>> tracker =
        track(source.bytes, source.page_size, copy.Value());
    if (!tracker) return tracker.Error();
    Memory memory;
    memory.taken = source.bytes;
    memory.page_size = source.page_size;
    memory.tracker = std::move(tracker.Value());
    memory.tracked_by_writes = track != &TrackByCompare;
    memory.copy = std::move(copy.Value());
    snapshot->memories_.push_back(std::move(memory));
  }
  for (const Source& source : memories) {
    const Status readable = LostPages::Get().Check(source.bytes);
    if (!readable) return readable.Error();
  }
  Room room(most_bytes);
  // All are tracked before the first byte is copied: what is written from here on is seen.
  for (const Memory& memory : snapshot->memories_) {
    const Status copied = CopyAll(memory, &room);
    if (!copied) return copied.Error();
  }
  // Writers that do not pause at all need mode copy-on-write.
  Status done = snapshot->CopyUntilQuiet(&room);
  if (done) done = snapshot->TakeRoomForSharedPages(&room);
  if (!done) return done.Error();
  return snapshot;
}

Status Snapshot::CopyAll(const Memory& memory, Room* room) noexcept {
  Status fits = Done{};
  const auto copy_page = [&](Range page, bool exists) {
    // Reading a hole would make it exist.
    if (!exists || !fits) return;
    const Range part = page.Intersect(memory.taken);
    // A page of zeros costs the copy nothing: its own page is never touched.
    if (IsZero(Pointer(part.start), part.Length())) return;
    uint8_t* const copy = memory.CopyAt(part.start - memory.taken.start);
    std::memcpy(copy, Pointer(part.start), part.Length());
    // Of the copy: the page may have become one of zeros meanwhile.
    if (part.Length() != PageSize() || IsZero(copy, PageSize())) return;
    fits = room->Take(PageSize());
  };
  const Range pages = memory.taken.RoundOutward(PageSize());
  if (pages.Length() < kLong * PageSize()) {
    RangeSet few;
    few.Add(pages);
    few.ForEachPage(PageSize(), [&](Range page) { copy_page(page, true); });
    return fits;
  }
  // What is not loaded yet does not exist either.
  HolderList::Get().FinishLoads(pages);
  PopulatedPages::Of(pages, memory.page_size, true).ForEachPage(pages, copy_page);
  return fits;
}

// What was written since it was copied.
class Snapshot::CopyingAgain final : public ConsistentCopy::Sink {
 public:
  CopyingAgain(const std::vector<Memory>* memories, Room* room) noexcept
      : memories_(*memories), room_(*room) {}

  Status Copy(size_t memory, const std::vector<Range>& runs) noexcept override {
    for (const Range& run : runs) {
      for (uint64_t page = run.start; page < run.end; page += PageSize()) {
        const Status copied = CopyOwn(memory, {page, page + PageSize()});
        if (!copied) return copied;
      }
    }
    return Done{};
  }

  void FinishCopies() noexcept override {}

  bool Differs(size_t memory, Range page) noexcept override {
    const Range part = PartOf(memory, page);
    return std::memcmp(CopyOf(memory, part), Pointer(part.start), part.Length()) != 0;
  }

  Status Prepare(size_t /*memory*/, Range /*page*/) noexcept override { return Done{}; }

  void Update(size_t memory, Range page) noexcept override {
    const Range part = PartOf(memory, page);
    std::memcpy(CopyOf(memory, part), Pointer(part.start), part.Length());
  }

 private:
  Range PartOf(size_t memory, Range page) const noexcept {
    return page.Intersect(memories_[memory].taken);
  }
  uint8_t* CopyOf(size_t memory, Range part) const noexcept {
    return memories_[memory].CopyAt(part.start - memories_[memory].taken.start);
  }

  // A page of zeros may have become another, and the other way round.
  Status CopyOwn(size_t memory, Range page) noexcept {
    const uint8_t* const copy = CopyOf(memory, page);
    const bool was_zero = IsZero(copy, PageSize());
    if (!Differs(memory, page)) return Done{};
    Update(memory, page);
    const bool is_zero = IsZero(copy, PageSize());
    if (is_zero && !was_zero) room_.GiveBack(PageSize());
    return was_zero && !is_zero ? room_.Take(PageSize()) : Status(Done{});
  }

  const std::vector<Memory>& memories_;
  Room& room_;
};

Status Snapshot::CopyUntilQuiet(Room* room) noexcept {
  CopyingAgain again(&memories_, room);
  std::vector<ConsistentCopy::Memory> memories;
  for (const Memory& memory : memories_) memories.push_back({memory.taken, memory.tracker.get()});
  // Next to copying all of it, looking through all of it again is nothing.
  return ConsistentCopy(std::move(memories), &again, ConsistentCopy::Writers::kAnybody).Run();
}

// Last of all: they were copied where nothing could be counted.
Status Snapshot::TakeRoomForSharedPages(Room* room) const noexcept {
  for (const Memory& memory : memories_) {
    for (const Range& page : ConsistentCopy::SharedPagesOf(memory.taken)) {
      const Range part = page.Intersect(memory.taken);
      if (IsZero(memory.CopyAt(part.start - memory.taken.start), part.Length())) continue;
      const Status fits = room->Take(part.Length());
      if (!fits) return fits;
    }
  }
  return Done{};
}

}  // namespace uffd
