#include "core/capture.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/compare.h"
#include "core/pagemap.h"
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
      populated_(PopulatedPages::OfArmedMemory(memory_.page_size)) {}

// writer          resolver                      sweep
// faults on P
//                 Claim(P) succeeds
//                 copies P                      Claim(P) fails: goes on
//                 Publish(P), MarkWritten(P)
//                 unprotects P
// writes P
//
// Copied first, published, then unprotected (test 64, B4); the loser of the claim waits.
WriteObserver::Verdict Capture::BeforeWrite(Range page) noexcept {
  if (cut_->Error() != 0) return Verdict::kGo;
  if (!cut_->IsComplete()) return Verdict::kWait;
  const size_t index = IndexOf(page.start);
  if (states_->Claim(index)) {
    CopyClaimed(index);
    cut_->CountFaulted();
  } else {
    states_->AwaitCaptured(index);
  }
  states_->MarkWritten(index);
  UFFD_BARRIER("capture-before-unprotect", nullptr);
  return Verdict::kGo;
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
  CaptureNow(part.start - memory_.pages.start, part.Length());
  const size_t end = IndexOf(part.end + memory_.page_size - 1);
  for (size_t page = IndexOf(part.start); page < end; page++) states_->MarkGivenBack(page);
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

size_t Capture::LoadBatch(size_t page) noexcept {
  const size_t small_pages = memory_.page_size / PageSize();
  const size_t count =
      std::min(std::max<size_t>(PopulatedPages::kBatch / small_pages, 1), states_->Count() - page);
  populated_.Load(PageAt(page).start, std::min(count * small_pages, PopulatedPages::kBatch));
  return count;
}

bool Capture::Exists(size_t index_in_batch) const noexcept {
  return populated_.Has(index_in_batch * (memory_.page_size / PageSize()));
}

size_t Capture::Sweep(size_t page) noexcept {
  // After the cut: what does not exist now has not existed then, or was zeros.
  const size_t count = LoadBatch(page);
  for (size_t i = 0; i < count && cut_->Error() == 0; i++) {
    if (!states_->Claim(page + i)) continue;
    if (Exists(i)) {
      CopyClaimedSafely(page + i);
    } else {
      states_->Publish(page + i, PageStates::Content::kZeros);
    }
    cut_->CountSwept();
  }
  return count;
}

size_t Capture::AddDifferent(size_t page, RangeSet* different) noexcept {
  const size_t count = LoadBatch(page);
  for (size_t i = 0; i < count; i++) {
    if (!EqualsCopy(page + i, Exists(i))) different->Add(PageAt(page + i));
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
  const size_t end = (offset + length - 1) / memory_.page_size + 1;
  for (size_t page = offset / memory_.page_size; page < end; page++) {
    if (states_->Claim(page)) {
      CopyClaimedSafely(page);
      cut_->CountSwept();
    } else {
      states_->AwaitCaptured(page);
    }
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
