// What the kernel said, decoded: uffd_msg -> Event. Pure.
#ifndef UFFD_CORE_FAULT_H_
#define UFFD_CORE_FAULT_H_

#include <cstdint>

#include "core/kernel_abi.h"

namespace uffd {

enum class EventType : uint8_t { kPageFault, kFork, kRemap, kRemove, kUnmap, kUnknown };
enum class FaultReason : uint8_t { kMissing, kWriteProtect, kMinor };

struct Event {
  EventType type = EventType::kUnknown;
  FaultReason reason = FaultReason::kMissing;
  bool write = false;
  uint32_t thread_id = 0;  // 0: the kernel was not asked (UFFD_FEATURE_THREAD_ID)
  uint32_t registration = 0;
  uint64_t address = 0;  // fault address, or start of the range
  int64_t offset = 0;    // the same from the start of the registration; set by the fault loop
  uint64_t stamp = 0;    // WakeLog's, when it was read
  uint64_t length = 0;   // of the range; 0 for a page fault
  uint64_t to = 0;       // new address of a remapped range
  int fork_fd = -1;      // the child's userfaultfd; owned by whoever decoded it
};

Event DecodeEvent(const uffd_msg& message) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_FAULT_H_
