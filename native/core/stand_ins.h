// Threads that work for another one, which is going to wait for them. A fault of theirs is as good
// as its own: who would have to end it may be the one that waits.
#ifndef UFFD_CORE_STAND_INS_H_
#define UFFD_CORE_STAND_INS_H_

#include <cstddef>
#include <cstdint>

namespace uffd {

// This thread works for `principal` (gettid(2)) as long as this lives.
class StandIn {
 public:
  static constexpr size_t kMost = 16;  // at a time

  // `place`: below kMost, and nobody else's.
  StandIn(size_t place, uint32_t principal) noexcept;
  ~StandIn();
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;

  static bool WorksFor(uint32_t thread, uint32_t principal) noexcept;

 private:
  const size_t place_;
};

}  // namespace uffd

#endif  // UFFD_CORE_STAND_INS_H_
