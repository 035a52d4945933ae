#include "core/lazy_memory.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace uffd {
namespace {

constexpr uint64_t kBits = 64;
constexpr uint64_t kMemoryShift = 40;  // of a touch: above the number of its page
// So long after a fault the next one may come.
constexpr uint64_t kCalmNs = 50'000;

Result<std::shared_ptr<Mapping>> Words(uint64_t count) noexcept {
  return Mapping::Anonymous(
      Range{0, count * sizeof(std::atomic<uint64_t>)}.RoundOutward(PageSize()).Length());
}

std::atomic<uint64_t>* AsWords(const Mapping& memory) noexcept {
  return reinterpret_cast<std::atomic<uint64_t>*>(memory.Data());
}

}  // namespace

Result<std::shared_ptr<LoadState>> LoadState::Create(uint64_t pages) noexcept {
  auto order = Words(std::max<uint64_t>(pages, 1));
  if (!order) return order.Error();
  return std::shared_ptr<LoadState>(new LoadState(std::move(order.Value())));
}

LoadState::LoadState(std::shared_ptr<Mapping> order) noexcept
    : order_memory_(std::move(order)), order_(AsWords(*order_memory_)) {}

void LoadState::Fail(Failure failure) noexcept {
  int none = 0;
  if (error_.compare_exchange_strong(none, failure.error)) failed_call_ = failure.call;
}

Status LoadState::Error() const noexcept {
  const int error = error_.load();
  if (error == 0) return Done{};
  const char* call = failed_call_.load();
  return Failure{error, call == nullptr ? "" : call};
}

void LoadState::CountFilled(uint64_t pages, uint64_t bytes) noexcept {
  filled_.fetch_add(pages, std::memory_order_relaxed);
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
}

void LoadState::CountTouch(Touch touch, uint64_t bytes, std::chrono::nanoseconds waited) noexcept {
  // One more than the number: zero is an entry that is taken and not written yet.
  const uint64_t entry = (uint64_t{touch.memory} << kMemoryShift | touch.page) + 1;
  order_[touches_.fetch_add(1)].store(entry, std::memory_order_release);
  const auto ns = static_cast<uint64_t>(waited.count());
  touched_.fetch_add(1, std::memory_order_relaxed);
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  waited_ns_.fetch_add(ns, std::memory_order_relaxed);
  uint64_t longest = longest_ns_.load(std::memory_order_relaxed);
  while (longest < ns && !longest_ns_.compare_exchange_weak(longest, ns)) {
  }
  NoteFault();
}

LoadState::Progress LoadState::Read() const noexcept {
  return {filled_.load(), touched_.load(), bytes_.load(), waited_ns_.load(), longest_ns_.load()};
}

LoadState::Touch LoadState::TouchAt(size_t index) const noexcept {
  uint64_t entry = 0;
  while ((entry = order_[index].load(std::memory_order_acquire)) == 0) {
  }
  entry--;
  return {static_cast<uint32_t>(entry >> kMemoryShift), entry & ((1UL << kMemoryShift) - 1)};
}

uint64_t LoadState::Now() noexcept {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                               std::chrono::nanoseconds(1));
}

bool LoadState::IsCalm() const noexcept {
  return Now() - last_fault_ns_.load(std::memory_order_relaxed) > kCalmNs;
}

Result<std::shared_ptr<LazyMemory>> LazyMemory::Create(std::shared_ptr<const SnapshotPages> pages,
                                                       uint32_t index, uint64_t bytes,
                                                       uint64_t page_size,
                                                       std::shared_ptr<LoadState> state) noexcept {
  const uint64_t count = bytes / page_size;
  auto settled = Words(count / kBits + 1);
  if (!settled) return settled.Error();
  return std::shared_ptr<LazyMemory>(new LazyMemory(std::move(pages), index, count, page_size,
                                                    std::move(state), std::move(settled.Value())));
}

LazyMemory::LazyMemory(std::shared_ptr<const SnapshotPages> pages, uint32_t index,
                       uint64_t page_count, uint64_t page_size, std::shared_ptr<LoadState> state,
                       std::shared_ptr<Mapping> settled) noexcept
    : pages_(std::move(pages)),
      index_(index),
      page_count_(page_count),
      page_size_(page_size),
      state_(std::move(state)),
      settled_memory_(std::move(settled)),
      settled_(AsWords(*settled_memory_)) {}

Result<const uint8_t*> LazyMemory::Load(uint64_t offset, uint64_t size,
                                        uint8_t* buffer) const noexcept {
  state_->NoteFault();
  if (!IsNeeded(offset)) return static_cast<const uint8_t*>(nullptr);
  const Status read = Read(offset / page_size_, size / page_size_, buffer);
  if (!read) return read.Error();
  return static_cast<const uint8_t*>(buffer);
}

Status LazyMemory::Read(uint64_t page, uint64_t count, uint8_t* to) const noexcept {
  Status read = pages_->Read(index_, InFiles(page), InFiles(count), to);
  if (!read) state_->Fail(read.Error());
  return read;
}

bool LazyMemory::IsNeeded(uint64_t offset) const noexcept {
  const uint64_t page = offset / page_size_;
  return page < page_count_ && !IsSettled(page) &&
         pages_->HasAny(index_, InFiles(page), InFiles(1));
}

void LazyMemory::Touched(uint64_t offset, std::chrono::nanoseconds waited) noexcept {
  const uint64_t page = offset / page_size_;
  const bool had_bytes = IsNeeded(offset);
  // A page that was given back is touched for the first time no more.
  if (Settle(page) && had_bytes) state_->CountTouch({index_, page}, page_size_, waited);
}

void LazyMemory::GivenBack(uint64_t offset, uint64_t length) noexcept {
  const uint64_t end = std::min((offset + length) / page_size_, page_count_);
  for (uint64_t page = (offset + page_size_ - 1) / page_size_; page < end; page++) Settle(page);
}

uint64_t LazyMemory::NextNeeded(uint64_t page) const noexcept {
  const std::vector<SnapshotPages::Run>& runs = pages_->Runs(index_);
  const uint64_t per_page = InFiles(1);
  while (page < page_count_) {
    const auto run = std::partition_point(runs.begin(), runs.end(), [&](const auto& each) {
      return each.first + each.count <= page * per_page;
    });
    if (run == runs.end()) return page_count_;
    page = std::max(page, run->first / per_page);
    const uint64_t end = (run->first + run->count + per_page - 1) / per_page;
    for (; page < end; page++) {
      if (!IsSettled(page)) return page;
    }
  }
  return page_count_;
}

uint64_t LazyMemory::NeededFrom(uint64_t page, uint64_t most) const noexcept {
  uint64_t count = 0;
  while (count < most && page + count < page_count_ && IsNeeded((page + count) * page_size_)) {
    count++;
  }
  return count;
}

void LazyMemory::Filled(uint64_t page, uint64_t count) noexcept {
  uint64_t settled = 0;
  for (uint64_t i = 0; i < count; i++) settled += Settle(page + i) ? 1 : 0;
  state_->CountFilled(settled, settled * page_size_);
}

bool LazyMemory::Settle(uint64_t page) noexcept {
  const uint64_t bit = uint64_t{1} << (page % kBits);
  return (settled_[page / kBits].fetch_or(bit) & bit) == 0;
}

bool LazyMemory::IsSettled(uint64_t page) const noexcept {
  return (settled_[page / kBits].load(std::memory_order_acquire) >> (page % kBits) & 1) != 0;
}

}  // namespace uffd
