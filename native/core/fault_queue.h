// The bounded hand-over from who reads faults to who reads events: a ring with one producer at a
// time and one consumer.
// Lock-free on purpose: a reader that held a lock and then faulted would stop the loop that serves
// it.
#ifndef UFFD_CORE_FAULT_QUEUE_H_
#define UFFD_CORE_FAULT_QUEUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/fault.h"
#include "core/mapping.h"
#include "core/open_faults.h"
#include "core/result.h"

namespace uffd {

class FaultQueue {
 public:
  static constexpr size_t kForRecords = size_t{1} << 17;
  static constexpr size_t kCapacity = kForRecords + 2 * OpenFaults::kCapacity;

  static Result<std::unique_ptr<FaultQueue>> Create() noexcept;

  // Under the FaultServer's mutex. A record that does not fit is counted, not stored: nobody waits
  // for it, its fault was resolved before. For faults that somebody must still end there is room
  // that the others do not get.
  bool Push(const Event& event) noexcept;
  // Reader thread only.
  bool Pop(Event* event) noexcept;
  bool Empty() const noexcept { return head_.load() == tail_.load(); }
  uint64_t Missed() const noexcept { return missed_.load(std::memory_order_relaxed); }

 private:
  explicit FaultQueue(std::shared_ptr<Mapping> memory) noexcept;

  std::shared_ptr<Mapping> memory_;  // untouched pages of the ring cost nothing
  Event* const ring_;
  alignas(64) std::atomic<uint64_t> head_{0};
  alignas(64) std::atomic<uint64_t> tail_{0};
  std::atomic<uint64_t> missed_{0};
};

}  // namespace uffd

#endif  // UFFD_CORE_FAULT_QUEUE_H_
