// Threads that work for another one, which is going to wait for them. A fault of theirs is as good
// as its own: who would have to end it may be the one that waits.
#ifndef UFFD_CORE_STAND_INS_H_
#define UFFD_CORE_STAND_INS_H_

#include <cstdint>

namespace uffd {

// This thread works for `principal` (gettid(2)) as long as this lives.
class StandIn {
 public:
  explicit StandIn(uint32_t principal) noexcept;
  ~StandIn();
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;

  // False: there are too many already, and nobody would know.
  bool IsKnown() const noexcept { return place_ >= 0; }

  static bool WorksFor(uint32_t thread, uint32_t principal) noexcept;

 private:
  int place_ = -1;
};

}  // namespace uffd

#endif  // UFFD_CORE_STAND_INS_H_
