// Which ranges JavaScript unprotected or woke lately, so that a fault read before cannot strip
// protection that came after.
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
// still true and is resolved.
#ifndef UFFD_CORE_WAKE_LOG_H_
#define UFFD_CORE_WAKE_LOG_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "core/range.h"

namespace uffd {

class WakeLog {
 public:
  // Held by the loop while it resolves and records one fault, and by Note: one is before the other.
  // Never held while user memory is touched or a result awaited.
  std::mutex& Mutex() noexcept { return mutex_; }

  // The stamp of a fault: taken before it is read.
  uint64_t Now() const noexcept { return epoch_.load(); }
  // Before the range is unprotected or woken.
  void Note(Range range) noexcept;
  // Under the mutex.
  bool WokenSince(uint64_t stamp, Range page) const noexcept;

 private:
  static constexpr size_t kRemembered = 256;

  std::mutex mutex_;
  std::atomic<uint64_t> epoch_{0};
  std::array<Range, kRemembered> last_{};  // the range of epoch e is at e % kRemembered
};

}  // namespace uffd

#endif  // UFFD_CORE_WAKE_LOG_H_
