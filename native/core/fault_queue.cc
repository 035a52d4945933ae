#include "core/fault_queue.h"

namespace uffd {

Result<std::unique_ptr<FaultQueue>> FaultQueue::Create() noexcept {
  Result<std::shared_ptr<Mapping>> memory = Mapping::Anonymous(kCapacity * sizeof(Event));
  if (!memory) return memory.Error();
  return std::unique_ptr<FaultQueue>(new FaultQueue(memory.Value()));
}

FaultQueue::FaultQueue(std::shared_ptr<Mapping> memory) noexcept
    : memory_(std::move(memory)), ring_(reinterpret_cast<Event*>(memory_->Data())) {}

bool FaultQueue::Push(const Event& event) noexcept {
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  const size_t room = event.id != 0 ? kCapacity : kForRecords;
  if (tail - head_.load(std::memory_order_acquire) >= room) {
    missed_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  ring_[tail % kCapacity] = event;
  tail_.store(tail + 1, std::memory_order_release);
  return true;
}

bool FaultQueue::Pop(Event* event) noexcept {
  const uint64_t head = head_.load(std::memory_order_relaxed);
  if (head == tail_.load(std::memory_order_acquire)) return false;
  *event = ring_[head % kCapacity];
  head_.store(head + 1, std::memory_order_release);
  return true;
}

}  // namespace uffd
