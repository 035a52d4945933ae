// On which processor the fault loop sleeps: that of the thread whose faults it ends. The kernel
// then only changes from one thread to the other and back; to wake a loop on another processor,
// which has to leave its own sleep first, takes several times as long.
//
//   thread    writes, faults, sleeps                                   goes on
//   loop                            wakes, ends the fault, sleeps again
//
// The kernel rather wakes a thread on an idle processor, so the loop is held where it is to be. It
// may do the same with the other thread: then they cannot be brought together for the moment, and a
// loop that stays awake is quicker than one that sleeps. Held on a processor that something else
// takes for itself, the loop is let go by the watchdog (Widen).
#ifndef UFFD_CORE_LOOP_PLACEMENT_H_
#define UFFD_CORE_LOOP_PLACEMENT_H_

#include <pthread.h>
#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "core/native_thread.h"

namespace uffd {

class LoopPlacement {
 public:
  using Clock = std::chrono::steady_clock;

  // By the thread that is going to start the loop.
  void Begin() noexcept { allowed_ = OwnProcessors(); }
  // On the loop's thread: faults of this one (gettid(2)) were ended. Looks where that thread is now
  // and then, and goes there.
  void Follow(pid_t thread, Clock::time_point now) noexcept;
  // Whether the loop was beside that thread when it last looked, or has just gone there. False also
  // where nobody can tell, or a filter may end the process that asks.
  bool IsBeside() const noexcept { return state_ != State::kApart; }

  // From any thread: the loop may run anywhere until it looks again.
  void Widen(pthread_t loop) noexcept;

 private:
  enum class State { kApart, kArriving, kBeside };

  bool IsTimeToLook(Clock::time_point now) noexcept;
  bool GoTo(int processor) noexcept;

  std::optional<cpu_set_t> allowed_;
  std::atomic<bool> widened_{false};
  // Loop only.
  State state_ = State::kApart;
  std::optional<int> held_on_;
  Clock::time_point looked_at_{};
  uint32_t patience_ = 1;  // how many times as long as usual it waits until it looks again
};

}  // namespace uffd

#endif  // UFFD_CORE_LOOP_PLACEMENT_H_
