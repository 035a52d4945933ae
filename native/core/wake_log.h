// Which ranges JavaScript unprotected, filled or woke lately, so that a fault read before cannot
// strip protection that came after.
//
//   loop thread                     JavaScript thread
//   reads a fault of page P
//                                   unprotects P (its writer goes on), arms P again
//   resolves: takes the new
//   protection away, and the next
//   write of P is never told
//
// With the log the loop sees that P's writer was woken since the fault was read, and only wakes it
// again; it faults anew if it still must (test 30, B13). Arming alone wakes nobody: the fault is
// still true and is resolved. What the loop itself ends in place of a handler is noted, too: an
// event loop that is awake may have read a fault of that page.
#ifndef UFFD_CORE_WAKE_LOG_H_
#define UFFD_CORE_WAKE_LOG_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/range.h"

namespace uffd {

// All but Now() under the FaultServer's mutex.
class WakeLog {
 public:
  // The stamp of a fault: taken before it is read.
  uint64_t Now() const noexcept { return epoch_.load(); }
  // After the range was unprotected, filled or woken: what was read before that is over.
  void Note(Range range) noexcept;
  bool WokenSince(uint64_t stamp, Range page) const noexcept;

 private:
  static constexpr size_t kRemembered = 256;

  std::atomic<uint64_t> epoch_{0};
  std::array<Range, kRemembered> last_{};  // the range of epoch e is at e % kRemembered
};

}  // namespace uffd

#endif  // UFFD_CORE_WAKE_LOG_H_
