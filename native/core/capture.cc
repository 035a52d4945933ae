#include "core/capture.h"

#include <sched.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/compare.h"
#include "core/lost_pages.h"
#include "core/pagemap.h"
#include "core/registry.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// Pages of memory that is not ours.
constexpr uint64_t kLargestOfOthers = 4096;

// Reads memory that may be unmapped meanwhile: false then.
bool ReadSafely(Range from, uint8_t* to) noexcept {
  if (from.Length() > kLargestOfOthers) return false;
  const iovec local{to, from.Length()};
  const iovec remote{reinterpret_cast<void*>(from.start), from.Length()};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) ==
         static_cast<ssize_t>(from.Length());
}

}  // namespace

Result<std::shared_ptr<Capture>> Capture::Create(Memory memory, std::shared_ptr<Mapping> copy,
                                                 std::shared_ptr<Cut> cut) noexcept {
  auto states = PageStates::Create(memory.pages.Length() / memory.page_size);
  if (!states) return states.Error();
  return std::shared_ptr<Capture>(
      new Capture(std::move(memory), std::move(copy), std::move(cut), std::move(states.Value())));
}

Capture::Capture(Memory memory, std::shared_ptr<Mapping> copy, std::shared_ptr<Cut> cut,
                 std::unique_ptr<PageStates> states) noexcept
    : memory_(std::move(memory)),
      copy_(std::move(copy)),
      cut_(std::move(cut)),
      states_(std::move(states)),
      populated_(Populated()) {}

// writer          resolver                      sweep
// faults on P
//                 Claim(P) succeeds
//                 copies P                      Claim(P) fails: goes on
//                 Publish(P), MarkWritten(P)
//                 unprotects P
// writes P
//
// Copied first, published, then unprotected (test 64, B4); the loser of the claim waits.
WriteObserver::Verdict Capture::BeforeWrite(Range* pages) noexcept {
  if (cut_->Error() != 0) return Verdict::kGo;
  if (!cut_->IsComplete()) return Verdict::kWait;
  const size_t first = IndexOf(pages->start);
  const size_t count = PagesForWriter(first);
  CaptureForWriter(first, &Capture::CopyClaimed);
  // The writer does not keep these mapped.
  for (size_t page = first + 1; page < first + count; page++) {
    CaptureForWriter(page, &Capture::CopyClaimedSafely);
  }
  pages->end = pages->start + count * memory_.page_size;
  UFFD_BARRIER("capture-before-unprotect", nullptr);
  return Verdict::kGo;
}

void Capture::CaptureForWriter(size_t page, Copier copy) noexcept {
  if (states_->Claim(page)) {
    (this->*copy)(page);
    cut_->CountFaulted();
  } else {
    states_->AwaitCaptured(page);
  }
  states_->MarkWritten(page);
}

// One fault for each page of a writer that fills the memory from one end to the other would be a
// waste: each that comes where the last ended gets twice as many pages, up to a limit.
size_t Capture::PagesForWriter(size_t page) noexcept {
  constexpr size_t kMost = 16;
  size_t count = 1;
  if (page == run_end_.load(std::memory_order_relaxed)) {
    count =
        std::min({run_pages_.load(std::memory_order_relaxed) * 2, kMost, states_->Count() - page});
  }
  run_pages_.store(count, std::memory_order_relaxed);
  run_end_.store(page + count, std::memory_order_relaxed);
  return count;
}

// A page that was captured just now may have been captured after it was given back: only when all
// was captured and found armed before, what is lost is known to be a change and nothing worse.
void Capture::Lost(Range range) noexcept {
  const Range part = range.Intersect(memory_.pages);
  if (part.Empty()) return;
  const size_t end = IndexOf(part.end + memory_.page_size - 1);
  for (size_t page = IndexOf(part.start); page < end; page++) {
    if (!held_all_ && !states_->IsGivenBack(page)) {
      cut_->Fail(Cut::kLost);
      return;
    }
    states_->MarkWritten(page);
  }
}

void Capture::BeforeDiscard(Range range) noexcept {
  const Range part = range.Intersect(memory_.pages);
  if (part.Empty()) return;
  // Given back before the instant, it would be captured as it was before (test 64, B5).
  while (!cut_->IsComplete() && cut_->Error() == 0) sched_yield();
  CaptureNow(part.start - memory_.pages.start, part.Length());
  const size_t end = IndexOf(part.end + memory_.page_size - 1);
  for (size_t page = IndexOf(part.start); page < end; page++) states_->MarkGivenBack(page);
}

// A hole is left alone: reading it may make it resident.
void Capture::CaptureClaimed(size_t page, bool exists) noexcept {
  if (exists) {
    CopyClaimedSafely(page);
  } else {
    states_->Publish(page, PageStates::Content::kZeros);
  }
}

void Capture::CopyClaimed(size_t page) noexcept {
  UFFD_BARRIER("capture-after-claim", nullptr);
  states_->Publish(page, Store(page, reinterpret_cast<const uint8_t*>(PageAt(page).start)));
}

// Not on the way of a writer, whose own access keeps the page mapped.
void Capture::CopyClaimedSafely(size_t page) noexcept {
  if (memory_.mapping != nullptr) {
    CopyClaimed(page);
    return;
  }
  UFFD_BARRIER("capture-after-claim", nullptr);
  uint8_t bytes[kLargestOfOthers];
  if (ReadSafely(PageAt(page), bytes)) {
    states_->Publish(page, Store(page, bytes));
  } else {
    cut_->Fail(Cut::kLost);
    states_->Publish(page, PageStates::Content::kZeros);
  }
}

PageStates::Content Capture::Store(size_t page, const uint8_t* bytes) noexcept {
  if (IsZero(bytes, memory_.page_size)) return PageStates::Content::kZeros;
  if (!cut_->TakeRoom(memory_.page_size)) return PageStates::Content::kZeros;
  std::memcpy(CopyOf(page), bytes, memory_.page_size);
  return PageStates::Content::kBytes;
}

PopulatedPages Capture::Populated() const noexcept {
  const bool was_aliased = memory_.mapping != nullptr && memory_.mapping->WasAliased();
  return PopulatedPages::OfArmedMemory(memory_.page_size, was_aliased);
}

size_t Capture::LoadBatch(size_t page, size_t end, PopulatedPages* populated) const noexcept {
  const size_t small_pages = memory_.page_size / PageSize();
  const size_t count =
      std::min(std::max<size_t>(PopulatedPages::kBatch / small_pages, 1), end - page);
  populated->Load(PageAt(page).start, std::min(count * small_pages, PopulatedPages::kBatch));
  return count;
}

bool Capture::Exists(size_t index_in_batch, const PopulatedPages& populated) const noexcept {
  return populated.Has(index_in_batch * (memory_.page_size / PageSize()));
}

Capture::Swept Capture::Sweep(size_t page) noexcept {
  // After the cut: what does not exist now has not existed then, or was zeros.
  Swept swept;
  swept.pages = LoadBatch(page, states_->Count(), &populated_);
  for (size_t i = 0; i < swept.pages && cut_->Error() == 0; i++) {
    if (!states_->Claim(page + i)) continue;
    const bool exists = Exists(i, populated_);
    CaptureClaimed(page + i, exists);
    cut_->CountSwept();
    swept.copied += exists ? 1 : 0;
  }
  return swept;
}

size_t Capture::AddDifferent(size_t page, RangeSet* different) noexcept {
  const size_t count = LoadBatch(page, states_->Count(), &populated_);
  const Range batch{PageAt(page).start, PageAt(page + count - 1).end};
  // Loaded anew since, or lost by that: it cannot be read here, and was written anyway.
  if (!Registry::Get().HolesAreZeros(batch) || !LostPages::Get().Check(batch)) {
    different->Add(batch);
    return count;
  }
  for (size_t i = 0; i < count; i++) {
    if (!EqualsCopy(page + i, Exists(i, populated_))) different->Add(PageAt(page + i));
  }
  return count;
}

bool Capture::EqualsCopy(size_t page, bool exists) const noexcept {
  const bool stored = states_->HasBytes(page);
  if (!exists) return !stored;
  const auto* live = reinterpret_cast<const uint8_t*>(PageAt(page).start);
  uint8_t bytes[kLargestOfOthers];
  if (memory_.mapping == nullptr) {
    if (!ReadSafely(PageAt(page), bytes)) return false;
    live = bytes;
  }
  return stored ? std::memcmp(live, CopyOf(page), memory_.page_size) == 0
                : IsZero(live, memory_.page_size);
}

void Capture::AwaitAll() const noexcept {
  for (size_t page = 0; page < states_->Count(); page++) states_->AwaitCaptured(page);
}

void Capture::CaptureNow(uint64_t offset, uint64_t length) noexcept {
  if (length == 0) return;
  PopulatedPages populated = Populated();
  const size_t end = (offset + length - 1) / memory_.page_size + 1;
  for (size_t page = offset / memory_.page_size; page < end;) {
    const size_t count = LoadBatch(page, end, &populated);
    for (size_t i = 0; i < count; i++) {
      if (states_->Claim(page + i)) {
        CaptureClaimed(page + i, Exists(i, populated));
        cut_->CountSwept();
      } else {
        states_->AwaitCaptured(page + i);
      }
    }
    page += count;
  }
}

bool Capture::HeldAll() noexcept {
  RangeSet armed;
  Result<Pagemap> pagemap = Pagemap::Create();
  if (!pagemap || !pagemap.Value().Armed(memory_.pages, &armed)) return false;
  // Read first, the marks after: a page is marked before it is unprotected.
  uint64_t at = memory_.pages.start;
  const auto all_written = [this](Range gap) {
    for (uint64_t page = gap.start; page < gap.end; page += memory_.page_size) {
      if (!states_->IsWritten(IndexOf(page))) return false;
    }
    return true;
  };
  for (const Range& part : armed.Ranges()) {
    if (!all_written({at, part.start})) return false;
    at = part.end;
  }
  if (!all_written({at, memory_.pages.end})) return false;
  held_all_ = true;
  return true;
}

void Capture::Written(RangeSet* written) const {
  for (size_t page = states_->NextWritten(0); page < states_->Count();
       page = states_->NextWritten(page + 1)) {
    written->Add(PageAt(page));
  }
}

}  // namespace uffd
