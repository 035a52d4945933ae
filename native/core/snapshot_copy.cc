// Mode copy: all is copied before Take returns, and again what was written meanwhile.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/compare.h"
#include "core/cut.h"
#include "core/dirty_engine.h"
#include "core/holder_list.h"
#include "core/lost_pages.h"
#include "core/populated_pages.h"
#include "core/snapshot.h"

namespace uffd {
namespace {

// Enough for writers that pause at all; those that do not need mode copy-on-write.
constexpr int kPasses = 64;
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

// When a pass over all memories finds nothing written since the pass before, then at the instant
// between the two every page equalled its copy.
//
// The first and last page of a buffer of V8's hold other data too, and are written all the time
// (this function's own vectors may lie there). When only those were written, and the memory's bytes
// in them equal the copy, it is still to be shown that they did so all at one time.
Status Snapshot::CopyUntilQuiet(Room* room) noexcept {
  const std::vector<SharedPage> shared_pages = SharedPages();
  for (int pass = 0; pass < kPasses; pass++) {
    bool changed = false;
    bool neighbours_wrote = false;
    for (const Memory& memory : memories_) {
      RangeSet dirty;
      const Status collected = memory.tracker->Collect(&dirty);
      if (!collected) return collected;
      Status fits = Done{};
      dirty.ForEachPage(PageSize(), [&](Range page) {
        const Range part = page.Intersect(memory.taken);
        // Of a huge page the memory may be a part.
        if (part.Empty() || !fits) return;
        const bool shared = part.Length() != page.Length();
        if (shared && !CopyIfDifferent(memory, page)) {
          neighbours_wrote = true;
          return;
        }
        changed = true;
        if (!shared) fits = CopyAgain(memory, page, room);
      });
      if (!fits) return fits;
    }
    if (changed) continue;
    if (!neighbours_wrote) return Done{};
    const Result<bool> still = HeldStill(shared_pages);
    if (!still) return still.Error();
    if (still.Value()) return Done{};
  }
  return Failure{EAGAIN, "snapshot"};
}

// Each once, however many of the memories lie in it.
std::vector<Snapshot::SharedPage> Snapshot::SharedPages() const {
  std::vector<SharedPage> shared;
  for (const Memory& memory : memories_) {
    for (const Range& page : memory.SharedPages()) {
      if (!page.Empty()) shared.push_back({page, memory.tracker.get()});
    }
  }
  std::sort(shared.begin(), shared.end(),
            [](const SharedPage& a, const SharedPage& b) { return a.page.start < b.page.start; });
  const auto rest = std::unique(
      shared.begin(), shared.end(),
      [](const SharedPage& a, const SharedPage& b) { return a.page.start == b.page.start; });
  shared.erase(rest, shared.end());
  return shared;
}

Result<bool> Snapshot::HeldStill(const std::vector<SharedPage>& shared) noexcept {
  DirtyTracker* any = shared.front().tracker;
  const Status begun = any->BeginSettling(shared.size());
  if (!begun) return begun.Error();
  const Result<bool> still = SettleAndCompare(shared);
  any->EndSettling();
  return still;
}

// Re-arms the shared pages, compares them, and asks whether anything was written meanwhile. Writes
// nothing but the stack, the copies and the trackers' own pages: the heap may be what is watched
// (test 60, many buffers in one page).
Result<bool> Snapshot::SettleAndCompare(const std::vector<SharedPage>& shared) noexcept {
  for (const SharedPage& each : shared) {
    const Result<bool> settled = each.tracker->Settle(each.page);
    if (!settled) return settled.Error();
  }
  // All of them, in every memory (what one shares may lie in the midst of another): what was
  // written before is noted nowhere else now. What is copied was re-armed before, so the next pass
  // sees when it changes again.
  bool changed = false;
  for (const Memory& memory : memories_) {
    const Range pages = memory.taken.RoundOutward(PageSize());
    auto each = std::partition_point(shared.begin(), shared.end(), [&](const SharedPage& before) {
      return before.page.start < pages.start;
    });
    for (; each != shared.end() && each->page.start < pages.end; ++each) {
      if (CopyIfDifferent(memory, each->page)) changed = true;
    }
  }
  if (changed) return false;
  for (const Memory& memory : memories_) {
    const Result<bool> written = memory.tracker->AnyWritten();
    if (!written || written.Value()) return written ? Result<bool>(false) : written;
  }
  return true;
}

bool Snapshot::CopyIfDifferent(const Memory& memory, Range page) noexcept {
  const Range part = page.Intersect(memory.taken);
  uint8_t* copy = memory.CopyAt(part.start - memory.taken.start);
  if (std::memcmp(copy, Pointer(part.start), part.Length()) == 0) return false;
  std::memcpy(copy, Pointer(part.start), part.Length());
  return true;
}

// A page of zeros may have become another, and the other way round.
Status Snapshot::CopyAgain(const Memory& memory, Range page, Room* room) noexcept {
  const uint8_t* copy = memory.CopyAt(page.start - memory.taken.start);
  const bool was_zero = IsZero(copy, PageSize());
  if (!CopyIfDifferent(memory, page)) return Done{};
  const bool is_zero = IsZero(copy, PageSize());
  if (is_zero && !was_zero) room->GiveBack(PageSize());
  return was_zero && !is_zero ? room->Take(PageSize()) : Status(Done{});
}

// Last of all: they were copied where nothing could be counted.
Status Snapshot::TakeRoomForSharedPages(Room* room) const noexcept {
  for (const Memory& memory : memories_) {
    for (const Range& page : memory.SharedPages()) {
      const Range part = page.Intersect(memory.taken);
      if (part.Empty()) continue;
      if (IsZero(memory.CopyAt(part.start - memory.taken.start), part.Length())) continue;
      const Status fits = room->Take(part.Length());
      if (!fits) return fits;
    }
  }
  return Done{};
}

std::array<Range, 2> Snapshot::Memory::SharedPages() const noexcept {
  const Range pages = taken.RoundOutward(PageSize());
  if (pages.Empty()) return {};
  const Range first{pages.start, pages.start + PageSize()};
  const Range last{pages.end - PageSize(), pages.end};
  const bool first_shared = !taken.Contains(first);
  const bool last_shared = !taken.Contains(last) && last.start != first.start;
  return {first_shared ? first : Range{}, last_shared ? last : Range{}};
}

}  // namespace uffd
