// What the kernel said, decoded: uffd_msg -> Event. Pure.
#ifndef UFFD_CORE_FAULT_H_
#define UFFD_CORE_FAULT_H_

#include <chrono>
#include <cstdint>

#include "core/kernel_abi.h"
#include "core/range.h"

namespace uffd {

enum class EventType : uint8_t { kPageFault, kFork, kRemap, kRemove, kUnmap, kUnknown };
enum class FaultReason : uint8_t { kMissing, kWriteProtect, kMinor };

// Who ended a fault, and how. The order of both is known to lib/page-fault.ts.
enum class EndedBy : uint8_t {
  kNobody,      // it is open
  kLoop,        // resolve: 'native'
  kHandler,     // resolve: 'handler', and JavaScript did
  kDeadline,    // JavaScript did not in time
  kOwnThread,   // the thread that consumes the events raised it
  kNoConsumer,  // nobody reads the events any more
  kCall,        // another call filled, unprotected or woke its page
  kRemoved,     // its page was given back to the kernel or unmapped
  kClosed,      // the registration or the userfaultfd was closed
  kForgotten,   // long ago
};
// kWake is the last.
enum class Action : uint8_t { kNone, kUnprotect, kZeropage, kCopy, kContinue, kPoison, kWake };
struct Ending {
  EndedBy by = EndedBy::kNobody;
  Action action = Action::kNone;
};

struct Event {
  EventType type = EventType::kUnknown;
  FaultReason reason = FaultReason::kMissing;
  bool write = false;
  uint32_t thread_id = 0;  // 0: the kernel was not asked (UFFD_FEATURE_THREAD_ID)
  uint32_t registration = 0;
  uint64_t address = 0;  // fault address, or start of the range
  int64_t offset = 0;    // the same from the start of the registration; set by the fault loop
  Range page;          // of a page fault: the page, which may be a huge one; set by the fault loop
  uint64_t stamp = 0;  // WakeLog's, when it was read
  std::chrono::steady_clock::time_point read_at;
  uint64_t length = 0;  // of the range; 0 for a page fault
  uint64_t to = 0;      // new address of a remapped range
  int fork_fd = -1;     // the child's userfaultfd; owned by whoever decoded it
  uint64_t child = 0;   // under which it is among the ForkedChildren; 0 when it was closed
  uint64_t id = 0;      // of a fault that a handler is to end; 0 for others
  Ending ending;
};

Event DecodeEvent(const uffd_msg& message) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_FAULT_H_
