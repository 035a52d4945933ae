#include "core/page_states.h"

#include <sched.h>

#include <algorithm>

namespace uffd {
namespace {

// The time of a copy of one page, then the processor goes to the copying thread if it waits for it.
constexpr int kSpins = 2000;

}  // namespace

Result<std::unique_ptr<PageStates>> PageStates::Create(size_t pages) noexcept {
  static_assert(sizeof(std::atomic<uint8_t>) == 1 && std::atomic<uint8_t>::is_always_lock_free);
  Result<std::shared_ptr<Mapping>> memory = Mapping::Anonymous(
      std::max<uint64_t>(Range{0, pages}.RoundOutward(PageSize()).end, PageSize()));
  if (!memory) return memory.Error();
  return std::unique_ptr<PageStates>(new PageStates(std::move(memory.Value()), pages));
}

// Fresh memory is zero, and zero is armed.
PageStates::PageStates(std::shared_ptr<Mapping> memory, size_t count) noexcept
    : memory_(std::move(memory)),
      states_(reinterpret_cast<std::atomic<uint8_t>*>(memory_->Data())),
      count_(count) {}

bool PageStates::Claim(size_t page) noexcept {
  uint8_t armed = kArmed;
  return states_[page].compare_exchange_strong(armed, kCopying, std::memory_order_acq_rel);
}

void PageStates::Publish(size_t page, Content content) noexcept {
  const uint8_t captured = content == Content::kBytes ? kCaptured | kBytes : kCaptured;
  states_[page].store(captured, std::memory_order_release);
}

void PageStates::AwaitCaptured(size_t page) const noexcept {
  for (int spins = 0; !IsCaptured(page); spins++) {
    if (spins > kSpins) sched_yield();
  }
}

void PageStates::MarkWritten(size_t page) noexcept {
  states_[page].fetch_or(kWritten, std::memory_order_acq_rel);
}

void PageStates::MarkGivenBack(size_t page) noexcept {
  states_[page].fetch_or(kWritten | kGivenBack, std::memory_order_acq_rel);
}

size_t PageStates::NextWritten(size_t page) const noexcept {
  constexpr size_t kWord = sizeof(uint64_t);
  constexpr uint64_t kWrittenWord = 0x0101010101010101ULL * kWritten;
  const uint8_t* const bytes = memory_->Data();
  while (page < count_) {
    if (page % kWord == 0 && page + kWord <= count_) {
      const uint64_t word =
          __atomic_load_n(reinterpret_cast<const uint64_t*>(bytes + page), __ATOMIC_ACQUIRE);
      if ((word & kWrittenWord) == 0) {
        page += kWord;
        continue;
      }
    }
    if (IsWritten(page)) return page;
    page++;
  }
  return count_;
}

}  // namespace uffd
