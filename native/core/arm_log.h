// Which ranges were armed lately, so that a fault read before cannot strip protection that came
// after.
//
//   loop thread                     JavaScript thread
//   reads a fault of page P
//                                   unprotects P, arms P again
//   resolves: takes the new
//   protection away, and the next
//   write of P is never told
//
// With the log the loop sees that P was armed since the fault was read, and only wakes the thread,
// which faults again if it still must (test 30, B13).
#ifndef UFFD_CORE_ARM_LOG_H_
#define UFFD_CORE_ARM_LOG_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "core/range.h"

namespace uffd {

class ArmLog {
 public:
  // Held while a range is armed and while a fault is resolved and recorded, so that one is before
  // the other. Never held while user memory is touched or a result awaited.
  std::mutex& Mutex() noexcept { return mutex_; }

  // The stamp of a fault: taken before it is read.
  uint64_t Now() const noexcept { return epoch_.load(); }
  // Under the mutex.
  void Note(Range armed) noexcept;
  bool ArmedSince(uint64_t stamp, Range page) const noexcept;

 private:
  static constexpr size_t kRemembered = 256;

  std::mutex mutex_;
  std::atomic<uint64_t> epoch_{0};
  std::array<Range, kRemembered> last_{};  // the range of epoch e is at e % kRemembered
};

}  // namespace uffd

#endif  // UFFD_CORE_ARM_LOG_H_
