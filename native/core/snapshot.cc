#include "core/snapshot.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/compare.h"

namespace uffd {
namespace {

// Enough for writers that pause at all; those that do not need mode copy-on-write.
constexpr int kPasses = 64;

uint8_t* Pointer(uint64_t address) noexcept { return reinterpret_cast<uint8_t*>(address); }

template <typename Visit>
void ForEachPage(RangeSet* pages, Visit visit) {
  for (const Range& range : pages->Ranges()) {
    for (uint64_t page = range.start; page < range.end; page += PageSize()) {
      visit(Range{page, page + PageSize()});
    }
  }
}

}  // namespace

uint8_t* Snapshot::Memory::CopyAt(uint64_t offset) const noexcept {
  return copy->Data() + taken.start % PageSize() + offset;
}

Result<std::unique_ptr<Snapshot>> Snapshot::Take(const std::vector<Range>& memories,
                                                 TrackerFactory track) noexcept {
  std::unique_ptr<Snapshot> snapshot(new Snapshot());
  for (const Range& bytes : memories) {
    const Range pages = bytes.RoundOutward(PageSize());
    Result<std::shared_ptr<Mapping>> copy =
        Mapping::Anonymous(std::max(pages.Length(), PageSize()));
    if (!copy) return copy.Error();
    Result<std::unique_ptr<DirtyTracker>> tracker = track(bytes, copy.Value());
    if (!tracker) return tracker.Error();
    snapshot->memories_.push_back({bytes, std::move(tracker.Value()), std::move(copy.Value())});
  }
  // All are tracked before the first byte is copied: what is written from here on is seen.
  for (const Memory& memory : snapshot->memories_) {
    RangeSet all;
    all.Add(memory.taken.RoundOutward(PageSize()));
    ForEachPage(&all, [&](Range page) {
      const Range part = page.Intersect(memory.taken);
      // A page of zeros costs the copy nothing: its own page is never touched.
      if (IsZero(Pointer(part.start), part.Length())) return;
      std::memcpy(memory.CopyAt(part.start - memory.taken.start), Pointer(part.start),
                  part.Length());
    });
  }
  const Status quiet = snapshot->CopyUntilQuiet();
  if (!quiet) return quiet.Error();
  return snapshot;
}

// When a pass over all memories finds nothing written since the pass before, then at the instant
// between the two every page equalled its copy.
//
// The first and last page of a buffer of V8's hold other data too, and are written all the time
// (this function's own vectors may lie there). When only those were written, and the memory's bytes
// in them equal the copy, it is still to be shown that they did so all at one time.
Status Snapshot::CopyUntilQuiet() noexcept {
  const std::vector<SharedPage> shared_pages = SharedPages();
  for (int pass = 0; pass < kPasses; pass++) {
    bool changed = false;
    bool neighbours_wrote = false;
    for (const Memory& memory : memories_) {
      RangeSet dirty;
      const Status collected = memory.tracker->Collect(&dirty);
      if (!collected) return collected;
      ForEachPage(&dirty, [&](Range page) {
        const bool shared = page.Intersect(memory.taken).Length() != page.Length();
        if (shared && !CopyIfDifferent(memory, page)) {
          neighbours_wrote = true;
          return;
        }
        changed = true;
        if (!shared) CopyIfDifferent(memory, page);
      });
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

std::array<Range, 2> Snapshot::Memory::SharedPages() const noexcept {
  const Range pages = taken.RoundOutward(PageSize());
  if (pages.Empty()) return {};
  const Range first{pages.start, pages.start + PageSize()};
  const Range last{pages.end - PageSize(), pages.end};
  const bool first_shared = !taken.Contains(first);
  const bool last_shared = !taken.Contains(last) && last.start != first.start;
  return {first_shared ? first : Range{}, last_shared ? last : Range{}};
}

Status Snapshot::Follow(const std::vector<Range>& live) noexcept {
  for (size_t i = 0; i < memories_.size(); i++) {
    if (live[i].Length() < memories_[i].taken.Length()) return Failure{ERANGE, "snapshot"};
  }
  for (size_t i = 0; i < memories_.size(); i++) {
    const Status followed = memories_[i].tracker->Follow(live[i]);
    if (!followed) return followed;
  }
  return Done{};
}

Result<Snapshot::Restored> Snapshot::Restore(const std::vector<Range>& live) noexcept {
  const Status followed = Follow(live);
  if (!followed) return followed.Error();
  Restored total;
  for (size_t i = 0; i < memories_.size(); i++) {
    const Memory& memory = memories_[i];
    RangeSet written;
    const Status peeked = memory.tracker->Peek(&written);
    if (!peeked) return peeked.Error();
    ForEachPage(&written, [&](Range page) {
      const uint64_t bytes = PutBack(memory, live[i], page);
      total.pages += bytes > 0 ? 1 : 0;
      total.bytes += bytes;
    });
    // Peek left the pages unarmed, so putting them back cost no faults. Re-arm first, compare
    // after: whoever writes from here on is seen, whoever wrote before differs.
    RangeSet rearmed;
    const Status collected = memory.tracker->Collect(&rearmed);
    if (!collected) return collected.Error();
    ForEachPage(&rearmed, [&](Range page) {
      if (!Differs(memory, live[i], page)) return;
      total.different++;
      memory.tracker->MarkDirty(page);
    });
  }
  return total;
}

Result<std::vector<RangeSet>> Snapshot::Diff(const std::vector<Range>& live) noexcept {
  const Status followed = Follow(live);
  if (!followed) return followed.Error();
  std::vector<RangeSet> different(memories_.size());
  for (size_t i = 0; i < memories_.size(); i++) {
    RangeSet written;
    const Status peeked = memories_[i].tracker->Peek(&written);
    if (!peeked) return peeked.Error();
    ForEachPage(&written, [&](Range page) {
      if (Differs(memories_[i], live[i], page)) different[i].Add(page);
    });
  }
  return different;
}

// A page has up to two parts: one inside the snapshot, and one that came with growth and was zero.
bool Snapshot::Differs(const Memory& memory, Range live, Range page) noexcept {
  const uint64_t held = live.start + memory.taken.Length();
  const Range old = page.Intersect({live.start, held});
  const Range grown = page.Intersect({held, live.end});
  if (!old.Empty() &&
      std::memcmp(Pointer(old.start), memory.CopyAt(old.start - live.start), old.Length()) != 0) {
    return true;
  }
  return !grown.Empty() && !IsZero(Pointer(grown.start), grown.Length());
}

uint64_t Snapshot::PutBack(const Memory& memory, Range live, Range page) noexcept {
  const uint64_t held = live.start + memory.taken.Length();
  const Range old = page.Intersect({live.start, held});
  const Range grown = page.Intersect({held, live.end});
  uint64_t written = 0;
  // What is equal stays as it is: it may never have existed (discarded, or of zeros on both sides),
  // and writing would make it resident. Memory that came with growth the same.
  if (!old.Empty() &&
      std::memcmp(Pointer(old.start), memory.CopyAt(old.start - live.start), old.Length()) != 0) {
    std::memcpy(Pointer(old.start), memory.CopyAt(old.start - live.start), old.Length());
    written += old.Length();
  }
  if (!grown.Empty() && !IsZero(Pointer(grown.start), grown.Length())) {
    std::memset(Pointer(grown.start), 0, grown.Length());
    written += grown.Length();
  }
  return written;
}

void Snapshot::Read(size_t memory, uint64_t offset, uint64_t length, uint8_t* to) const noexcept {
  std::memcpy(to, memories_[memory].CopyAt(offset), length);
}

}  // namespace uffd
