#include "core/snapshot_history.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/compare.h"
#include "core/holder_list.h"
#include "core/lost_pages.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// So many pages in a row are worth asking which of them exist.
constexpr uint64_t kLongRun = 64;
// Pages that are at hand for the next entry: as many as the last one took, within these.
constexpr uint64_t kMostSpare = 16384;
constexpr uint64_t kLeastSpare = 64;
// Pages that are noted before the first is entered: 1 MiB.
constexpr uint64_t kMostPlaced = 65536;
// What the processor is asked for before it is its turn: pages of a run, and runs.
constexpr uint64_t kAhead = 8;
constexpr size_t kRunsAhead = 16;

uint8_t* Pointer(uint64_t address) noexcept { return reinterpret_cast<uint8_t*>(address); }

bool PageEquals(const uint8_t* slot, Range part) noexcept {
  if (slot == nullptr) return IsZero(Pointer(part.start), part.Length());
  return std::memcmp(slot + part.start % PageSize(), Pointer(part.start), part.Length()) == 0;
}

}  // namespace

Range SnapshotHistory::Memory::PageAt(uint64_t page) const noexcept {
  const uint64_t first = live.start & ~(PageSize() - 1);
  return {first + page * PageSize(), first + (page + 1) * PageSize()};
}

uint64_t SnapshotHistory::Memory::PageOf(uint64_t address) const noexcept {
  return (address - (live.start & ~(PageSize() - 1))) / PageSize();
}

// Visits each page with whether it may hold anything but zeros.
template <typename Visit>
void SnapshotHistory::ForEachPage(Memory* memory, Range pages, Visit visit) noexcept {
  if (pages.Length() < kLongRun * PageSize()) {
    for (uint64_t page = pages.start; page < pages.end; page += PageSize()) {
      visit(Range{page, page + PageSize()}, true);
    }
    return;
  }
  // What is not loaded yet does not exist either (test 69, B20).
  HolderList::Get().FinishLoads(pages);
  memory->populated.ForEachPage(pages, visit);
}

// Of those pages that do not hold what they do in `version`.
template <typename Visit>
void SnapshotHistory::ForEachDiffering(size_t memory, const Version& version, RangeSet* pages,
                                       Visit visit) noexcept {
  for (const Range& run : pages->Ranges()) {
    ForEachPage(&memories_[memory], run, [&](Range page, bool exists) {
      if (Differs(memories_[memory], version, page, exists)) visit(page);
    });
  }
}

// The entry that is being taken, until it is one.
class SnapshotHistory::Taking final : public ConsistentCopy::Sink {
 public:
  Taking(SnapshotHistory* history, Versions versions) noexcept
      : history_(*history),
        versions_(std::move(versions)),
        placed_(versions_.size()),
        is_entered_(versions_.size()) {}

  Status Copy(size_t memory, const std::vector<Range>& runs) noexcept override {
    uint64_t bytes = 0;
    for (const Range& run : runs) bytes += run.Length();
    const uint64_t pages = bytes / PageSize();
    history_.copies_.Expect(pages);
    // What a pass before this one placed.
    Status done = Enter(memory);
    if (!is_entered_[memory]) placed_[memory].reserve(std::min(pages, kMostPlaced));
    for (size_t i = 0; i < runs.size() && done; i++) {
      // A page that was not written lately is in no cache.
      if (i + kRunsAhead < runs.size()) __builtin_prefetch(Pointer(runs[i + kRunsAhead].start));
      done = CopyRun(memory, runs[i]);
    }
    return done;
  }

  void FinishCopies() noexcept override { history_.copies_.Finish(); }

  bool Differs(size_t memory, Range page) noexcept override {
    return !PageEquals(SlotOf(memory, page), PartOf(memory, page));
  }

  Status Prepare(size_t memory, Range page) noexcept override {
    // The page may lie in the midst of this memory, and be placed.
    const Status entered = Enter(memory);
    if (!entered) return entered;
    const uint8_t* before = SlotOf(memory, page);
    const Result<uint8_t*> own = Own(memory, page);
    if (!own) return own.Error();
    // What is not the memory's is zero in every slot.
    if (before == nullptr) {
      std::memset(own.Value(), 0, PageSize());
    } else if (before != own.Value()) {
      std::memcpy(own.Value(), before, PageSize());
    }
    return Done{};
  }

  void Update(size_t memory, Range page) noexcept override {
    const Range part = PartOf(memory, page);
    std::memcpy(const_cast<uint8_t*>(SlotOf(memory, page)) + part.start % PageSize(),
                Pointer(part.start), part.Length());
  }

  // Nothing can fail after it. ENOSPC: the versions are larger than `most_bytes`.
  Status Finish(std::optional<uint64_t> most_bytes) noexcept {
    if (!most_bytes) {
      uint64_t tables = 0;
      for (const PageTable::Pages& pages : placed_) tables += PageTable::MostTablesFor(pages);
      return history_.table_.ReserveTables(tables);
    }
    // How large they are is known when all is entered.
    Status done = Done{};
    uint64_t bytes = 0;
    for (size_t i = 0; i < versions_.size() && done; i++) {
      done = Enter(i);
      bytes += versions_[i].pages.Bytes();
    }
    if (done && bytes > *most_bytes) done = Failure{ENOSPC, "snapshot"};
    return done;
  }

  // The versions, and what is still to be entered in them.
  std::vector<TableUpkeep::Entering> HandOver(Versions* versions) noexcept {
    *versions = std::move(versions_);
    std::vector<TableUpkeep::Entering> entering;
    for (size_t i = 0; i < versions->size(); i++) {
      entering.push_back({&(*versions)[i].pages, std::move(placed_[i])});
    }
    return entering;
  }

  void GiveUp() noexcept {
    for (const PageTable::Pages& pages : placed_) history_.table_.GiveUp(pages);
    history_.Release(versions_);
  }

 private:
  Status Enter(size_t memory) noexcept {
    PageTable::Pages& pages = placed_[memory];
    if (pages.empty()) return Done{};
    const Status reserved = history_.table_.ReserveTables(PageTable::MostTablesFor(pages));
    if (!reserved) return reserved;
    history_.table_.Enter(&versions_[memory].pages, pages);
    pages.clear();
    is_entered_[memory] = true;
    return Done{};
  }

  Status CopyRun(size_t memory, Range run) noexcept {
    Status done = Done{};
    ForEachPage(&history_.memories_[memory], run, [&](Range page, bool exists) {
      const uint64_t ahead = page.start + kAhead * PageSize();
      if (ahead < run.end) __builtin_prefetch(Pointer(ahead));
      if (done) done = CopyPage(memory, page, exists);
    });
    return done;
  }

  Range PartOf(size_t memory, Range page) const noexcept {
    return page.Intersect(history_.memories_[memory].live);
  }

  const uint8_t* SlotOf(size_t memory, Range page) const noexcept {
    const uint32_t slot = history_.table_.Find(versions_[memory].pages,
                                               history_.memories_[memory].PageOf(page.start));
    return slot == SlotStore::kNone ? nullptr : history_.table_.Data(slot);
  }

  Result<uint8_t*> Own(size_t memory, Range page) noexcept {
    const Result<uint32_t> slot = history_.table_.Own(
        &versions_[memory].pages, history_.memories_[memory].PageOf(page.start));
    if (!slot) return slot.Error();
    return history_.table_.Data(slot.Value());
  }

  Status CopyPage(size_t memory, Range page, bool exists) noexcept {
    if (!exists || IsZero(Pointer(page.start), PageSize())) return Clear(memory, page);
    // Of a huge page all is told as written, but only what differs is worth keeping.
    const bool is_huge = history_.memories_[memory].page_size > PageSize();
    if (is_huge && !Differs(memory, page)) return Done{};
    const Result<uint8_t*> own = is_entered_[memory] ? Own(memory, page) : Place(memory, page);
    if (!own) return own.Error();
    history_.copies_.Add(own.Value(), Pointer(page.start));
    return Done{};
  }

  Status Clear(size_t memory, Range page) noexcept {
    const uint64_t number = history_.memories_[memory].PageOf(page.start);
    PageVersion& version = versions_[memory].pages;
    if (is_entered_[memory]) return history_.table_.Clear(&version, number);
    if (history_.table_.Find(version, number) == SlotStore::kNone) return Done{};
    return Note(memory, {number, SlotStore::kNone});
  }

  Result<uint8_t*> Place(size_t memory, Range page) noexcept {
    const Result<uint32_t> slot = history_.table_.Place();
    if (!slot) return slot.Error();
    const uint64_t number = history_.memories_[memory].PageOf(page.start);
    const Status noted = Note(memory, {number, slot.Value()});
    if (!noted) return noted.Error();
    return history_.table_.Data(slot.Value());
  }

  Status Note(size_t memory, PageTable::Placed page) noexcept {
    placed_[memory].push_back(page);
    return placed_[memory].size() < kMostPlaced ? Done{} : Enter(memory);
  }

  SnapshotHistory& history_;
  // What is placed is not entered in them yet, and no page of it is looked up, or placed again,
  // before it is. Once something is entered what follows is at once: a page that is copied again
  // keeps its slot.
  Versions versions_;
  std::vector<PageTable::Pages> placed_;
  std::vector<bool> is_entered_;
};

Result<std::unique_ptr<SnapshotHistory>> SnapshotHistory::Track(
    const std::vector<Source>& sources, DirtyEngine engine,
    ConsistentCopy::Writers writers) noexcept {
  std::unique_ptr<SnapshotHistory> history(new SnapshotHistory(writers));
  for (const Source& source : sources) {
    if (source.bytes.Length() / PageSize() >= PageTable::kMostPages) return Failure{ERANGE, "mmap"};
    Result<std::unique_ptr<DirtyTracker>> tracker =
        CreateDirtyTracker(engine, source.bytes, source.page_size, source.mapping);
    if (!tracker) return tracker.Error();
    const Range pages = source.bytes.RoundOutward(source.page_size);
    // The first entry has everything.
    tracker.Value()->MarkDirty(pages);
    history->memories_.push_back({source.bytes, source.page_size, std::move(tracker.Value()),
                                  PopulatedPages::Of(pages, source.page_size, true)});
  }
  return history;
}

Status SnapshotHistory::Follow(const std::vector<Range>& live) noexcept {
  for (size_t i = 0; i < memories_.size(); i++) {
    Memory& memory = memories_[i];
    const Range before = memory.live;
    const Range now = live[i];
    if (now.start == before.start && now.end == before.end) continue;
    if (now.start % PageSize() != before.start % PageSize()) return Failure{EINVAL, "snapshot"};
    const Status followed = memory.tracker->Follow(now);
    if (!followed) return followed;
    memory.live = now;
    memory.populated =
        PopulatedPages::Of(now.RoundOutward(memory.page_size), memory.page_size, true);
    // Inside these pages bytes came or went, whatever was written.
    for (const uint64_t end : {now.start + before.Length(), now.end}) {
      const Range page = Range{end, end}.RoundOutward(PageSize());
      if (!page.Empty()) memory.tracker->MarkDirty(page);
    }
  }
  return Done{};
}

uint64_t SnapshotHistory::PagesOfAll() const noexcept {
  uint64_t bytes = 0;
  for (const Memory& memory : memories_) bytes += memory.live.Length();
  return bytes / PageSize();
}

Status SnapshotHistory::CheckReadable() const noexcept {
  for (const Memory& memory : memories_) {
    Status readable = LostPages::Get().Check(memory.live);
    if (!readable) return readable;
  }
  return Done{};
}

PageVersion SnapshotHistory::Head(size_t memory) const noexcept {
  return head_ == 0 ? PageVersion{} : entries_.at(head_).versions[memory].pages;
}

Result<SnapshotHistory::Versions> SnapshotHistory::CopyOfHead() noexcept {
  Versions versions;
  for (size_t i = 0; i < memories_.size(); i++) {
    Version version;
    version.bytes = memories_[i].live.Length();
    const Result<PageVersion> copy = table_.Copy(Head(i));
    Status done = copy ? Status(Done{}) : Status(copy.Error());
    if (copy) {
      version.pages = copy.Value();
      done = ForgetBehindEnd(i, &version);
      versions.push_back(version);
    }
    if (done) continue;
    Release(versions);
    return done.Error();
  }
  return versions;
}

// A memory that shrank has no bytes there, and no tracker that tells.
Status SnapshotHistory::ForgetBehindEnd(size_t index, Version* version) noexcept {
  if (head_ == 0 || entries_.at(head_).versions[index].bytes <= version->bytes) return Done{};
  const Memory& memory = memories_[index];
  Status done = Done{};
  table_.ForEachDifference({}, Head(index), [&](uint64_t page, uint32_t, uint32_t) {
    if (memory.PageAt(page).end <= memory.live.end || !done) return;
    done = table_.Clear(&version->pages, page);
    // The last page may have bytes before the end.
    memory.tracker->MarkDirty(memory.PageAt(page));
  });
  return done;
}

void SnapshotHistory::Release(const Versions& versions) noexcept {
  for (const Version& version : versions) table_.Release(version.pages);
}

Result<uint64_t> SnapshotHistory::Take(const std::vector<Range>& live,
                                       std::optional<uint64_t> most_bytes) noexcept {
  upkeep_.Await();
  upkeep_.EndWarmUp();
  const Status followed = Follow(live);
  if (!followed) return followed.Error();
  const Status readable = CheckReadable();
  if (!readable) return readable.Error();
  const uint64_t bytes_before = table_.Bytes();
  const uint64_t slots_before = table_.Slots();
  Result<Versions> begun = CopyOfHead();
  if (!begun) return begun.Error();
  Taking taking(this, std::move(begun.Value()));
  std::vector<ConsistentCopy::Memory> memories;
  for (const Memory& memory : memories_) memories.push_back({memory.live, memory.tracker.get()});
  ConsistentCopy copy(std::move(memories), &taking, writers_);
  Status done = copy.Run();
  if (done) {
    done = taking.Finish(most_bytes);
    if (!done) copy.PutBack();
  }
  if (!done) {
    taking.GiveUp();
    table_.GiveBack(spare_pages_);
    return done.Error();
  }
  const uint64_t slots_taken = table_.Slots() - slots_before;
  // The first has everything, and nothing follows from that for the next.
  if (head_ != 0) {
    spare_pages_ = std::clamp(slots_taken, std::min(kLeastSpare, PagesOfAll()), kMostSpare);
  }
  head_ = ++last_entry_;
  Entry& entry = entries_[head_];
  entry.slots_taken = slots_taken;
  upkeep_.Enter(taking.HandOver(&entry.versions), bytes_before, &entry.bytes_added);
  upkeep_.ExpectPlaced(spare_pages_);
  return head_;
}

Status SnapshotHistory::CheckRestore(uint64_t entry,
                                     const std::vector<Range>& live) const noexcept {
  const Versions& versions = entries_.at(entry).versions;
  for (size_t i = 0; i < memories_.size(); i++) {
    if (live[i].Length() < versions[i].bytes) return Failure{ERANGE, "snapshot"};
  }
  return Done{};
}

Status SnapshotHistory::Candidates(size_t memory, const Version& version,
                                   RangeSet* pages) noexcept {
  const Range all = memories_[memory].live.RoundOutward(PageSize());
  table_.ForEachDifference(Head(memory), version.pages, [&](uint64_t page, uint32_t, uint32_t) {
    pages->Add(memories_[memory].PageAt(page).Intersect(all));
  });
  RangeSet written;
  const Status peeked = memories_[memory].tracker->Peek(&written);
  if (peeked) pages->AddAll(written);
  return peeked;
}

bool SnapshotHistory::Differs(const Memory& memory, const Version& version, Range page,
                              bool exists) const noexcept {
  const uint32_t slot = table_.Find(version.pages, memory.PageOf(page.start));
  // What does not exist is better not read.
  if (slot == SlotStore::kNone && !exists) return false;
  return !PageEquals(slot == SlotStore::kNone ? nullptr : table_.Data(slot),
                     page.Intersect(memory.live));
}

void SnapshotHistory::PutBack(const Memory& memory, const Version& version,
                              Range page) const noexcept {
  const Range part = page.Intersect(memory.live);
  const uint32_t slot = table_.Find(version.pages, memory.PageOf(page.start));
  if (slot == SlotStore::kNone) {
    std::memset(Pointer(part.start), 0, part.Length());
  } else {
    std::memcpy(Pointer(part.start), table_.Data(slot) + part.start % PageSize(), part.Length());
  }
}

Result<SnapshotHistory::Restored> SnapshotHistory::Restore(
    uint64_t entry, const std::vector<Range>& live) noexcept {
  upkeep_.Await();
  const Status fits = CheckRestore(entry, live);
  if (!fits) return fits.Error();
  const Status followed = Follow(live);
  if (!followed) return followed.Error();
  for (Memory& memory : memories_) {
    RangeSet emptied;
    const Status empty = LostPages::Get().Empty(memory.live, &emptied);
    for (const Range& pages : emptied.Ranges()) memory.tracker->MarkDirty(pages);
    if (!empty) return empty.Error();
  }
  const Versions& versions = entries_.at(entry).versions;
  std::vector<RangeSet> candidates(memories_.size());
  for (size_t i = 0; i < memories_.size(); i++) {
    const Status found = Candidates(i, versions[i], &candidates[i]);
    if (!found) return found.Error();
  }
  Restored total;
  for (size_t i = 0; i < memories_.size(); i++) {
    // What is equal stays as it is: it may never have existed, and writing would make it resident.
    ForEachDiffering(i, versions[i], &candidates[i], [&](Range page) {
      PutBack(memories_[i], versions[i], page);
      total.pages++;
      total.bytes += page.Intersect(memories_[i].live).Length();
    });
  }
  UFFD_BARRIER("put back", nullptr);
  // Re-arm first, compare after: whoever writes from here on is seen, whoever wrote before differs.
  Status done = Done{};
  for (size_t i = 0; i < memories_.size() && done; i++) {
    RangeSet rearmed;
    done = memories_[i].tracker->Collect(&rearmed);
    ForEachDiffering(i, versions[i], &rearmed, [&](Range page) {
      total.different++;
      memories_[i].tracker->MarkDirty(page);
    });
  }
  if (done) {
    head_ = entry;
    return total;
  }
  for (size_t i = 0; i < memories_.size(); i++) {
    for (const Range& range : candidates[i].Ranges()) memories_[i].tracker->MarkDirty(range);
  }
  return done.Error();
}

std::vector<SnapshotHistory::Difference> SnapshotHistory::Diff(uint64_t a, uint64_t b) noexcept {
  upkeep_.Await();
  std::vector<Difference> differences;
  for (size_t i = 0; i < memories_.size(); i++) {
    const Memory& memory = memories_[i];
    const Version& left = entries_.at(a).versions[i];
    const Version& right = entries_.at(b).versions[i];
    const uint64_t start = memory.live.start;
    Difference difference;
    difference.bytes = {start, start + std::max(left.bytes, right.bytes)};
    table_.ForEachDifference(
        left.pages, right.pages, [&](uint64_t page, uint32_t in_left, uint32_t in_right) {
          // One of them is no page of zeros.
          const uint8_t* one = table_.Data(in_left != SlotStore::kNone ? in_left : in_right);
          const bool both = in_left != SlotStore::kNone && in_right != SlotStore::kNone;
          const bool equal = both ? std::memcmp(one, table_.Data(in_right), PageSize()) == 0
                                  : IsZero(one, PageSize());
          if (!equal) {
            difference.pages.Add(memory.PageAt(page).RoundOutward(memory.page_size));
          }
        });
    differences.push_back(std::move(difference));
  }
  return differences;
}

Result<std::vector<SnapshotHistory::Difference>> SnapshotHistory::DiffLive(
    uint64_t entry, const std::vector<Range>& live) noexcept {
  upkeep_.Await();
  const Status followed = Follow(live);
  if (!followed) return followed.Error();
  const Status readable = CheckReadable();
  if (!readable) return readable.Error();
  std::vector<Difference> differences;
  for (size_t i = 0; i < memories_.size(); i++) {
    Memory& memory = memories_[i];
    const Version& version = entries_.at(entry).versions[i];
    RangeSet candidates;
    const Status found = Candidates(i, version, &candidates);
    if (!found) return found.Error();
    Difference difference;
    difference.bytes = {memory.live.start,
                        memory.live.start + std::max(version.bytes, memory.live.Length())};
    ForEachDiffering(i, version, &candidates, [&](Range page) {
      difference.pages.Add(page.RoundOutward(memory.page_size));
    });
    if (version.bytes > memory.live.Length()) AddBehindEnd(memory, version, &difference.pages);
    differences.push_back(std::move(difference));
  }
  return differences;
}

// The memory shrank: what is not zero there differs.
void SnapshotHistory::AddBehindEnd(const Memory& memory, const Version& version,
                                   RangeSet* different) const noexcept {
  table_.ForEachDifference({}, version.pages, [&](uint64_t number, uint32_t, uint32_t slot) {
    const Range page = memory.PageAt(number);
    if (page.end <= memory.live.end) return;
    const uint64_t from = std::max(page.start, memory.live.end) - page.start;
    if (IsZero(table_.Data(slot) + from, PageSize() - from)) return;
    different->Add(page.RoundOutward(memory.page_size));
  });
}

void SnapshotHistory::Read(uint64_t entry, size_t memory, uint64_t offset, uint64_t length,
                           uint8_t* to) noexcept {
  upkeep_.Await();
  const PageVersion& version = entries_.at(entry).versions[memory].pages;
  const uint64_t lead = memories_[memory].live.start % PageSize();
  for (uint64_t at = lead + offset; at < lead + offset + length;) {
    const uint64_t in_page = at % PageSize();
    const uint64_t bytes = std::min(PageSize() - in_page, lead + offset + length - at);
    const uint32_t slot = table_.Find(version, at / PageSize());
    if (slot == SlotStore::kNone) {
      std::memset(to, 0, bytes);
    } else {
      std::memcpy(to, table_.Data(slot) + in_page, bytes);
    }
    to += bytes;
    at += bytes;
  }
}

void SnapshotHistory::Drop(uint64_t entry) noexcept {
  // The newest may not be complete yet.
  if (head_ == entry) upkeep_.Await();
  const auto dropped = entries_.find(entry);
  const Versions versions = std::move(dropped->second.versions);
  const auto next = entries_.erase(dropped);
  if (head_ == entry) {
    // Another becomes what the memories are held against; where it differs counts as written.
    head_ = 0;
    if (next != entries_.begin()) {
      head_ = std::prev(next)->first;
    } else if (next != entries_.end()) {
      head_ = next->first;
    }
    for (size_t i = 0; i < memories_.size(); i++) {
      table_.ForEachDifference(versions[i].pages, Head(i), [&](uint64_t page, uint32_t, uint32_t) {
        memories_[i].tracker->MarkDirty(memories_[i].PageAt(page));
      });
    }
  }
  for (const Version& version : versions) upkeep_.Release(version.pages, spare_pages_);
  // Mostly it was the only one that had what the entry after it has others for.
  if (next != entries_.end()) upkeep_.ExpectFree(next->second.slots_taken);
}

uint64_t SnapshotHistory::Bytes() noexcept {
  upkeep_.Await();
  return table_.Bytes();
}

uint64_t SnapshotHistory::AddedBytes(uint64_t entry) noexcept {
  upkeep_.Await();
  return entries_.at(entry).bytes_added;
}

uint64_t SnapshotHistory::OwnBytes(uint64_t entry) noexcept {
  upkeep_.Await();
  uint64_t bytes = 0;
  for (const Version& version : entries_.at(entry).versions) {
    bytes += table_.OwnBytes(version.pages);
  }
  return bytes;
}

}  // namespace uffd
