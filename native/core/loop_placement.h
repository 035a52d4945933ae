// On which processor the fault loop sleeps: that of the thread whose faults it ends. The kernel
// then only changes from one thread to the other and back; to wake a loop on another processor,
// which has to leave its own sleep first, takes several times as long.
//
//   thread    writes, faults, sleeps                                   goes on
//   loop                            wakes, ends the fault, sleeps again
//
// The kernel rather wakes a thread on an idle processor, so the loop is held where it is to be. It
// may do the same with the other thread: then they cannot be brought together for the moment, and a
// loop that stays awake is quicker than one that sleeps.
//
// Whoever else takes that processor for itself keeps a held loop from running, and so does the very
// thread that it follows from those of others. So it is held for one thread, as long as faults come
// and nobody else has any, and the watchdog lets go of one that makes no progress (test 44).
#ifndef UFFD_CORE_LOOP_PLACEMENT_H_
#define UFFD_CORE_LOOP_PLACEMENT_H_

#include <pthread.h>
#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>

namespace uffd {

class LoopPlacement {
 public:
  // The loop's thread.

  using Clock = std::chrono::steady_clock;
  // A held loop lets go when no fault came for so long.
  static constexpr int kHoldMs = 10;
  // A fault of this thread (gettid(2), 0: not known), read then, was ended.
  void Note(pid_t thread, Clock::time_point read_at) noexcept;
  // Whenever the loop has served what there was: looks where the thread is now and then, and goes
  // there.
  void Follow() noexcept;
  // Whether the loop was beside that thread when it last looked, or has just gone there. False also
  // where nobody can tell, or a filter may end the process that asks.
  bool IsBeside() const noexcept { return state_ != State::kApart; }
  bool IsHeld() const noexcept { return held_; }
  void LetGo() noexcept;

  // Any other thread. The loop may run where it might before, and follows nobody any more.

  void Dismiss(pthread_t loop) noexcept;
  // The same where it may be kept from running.
  void Rescue(pthread_t loop) noexcept {
    if (held_) Dismiss(loop);
  }

 private:
  enum class State { kApart, kArriving, kBeside };

  bool TakeTurnToLook() noexcept;
  bool HoldOn(int processor) noexcept;
  bool IsWhereItIsHeld(const cpu_set_t& own) const noexcept;
  void SetReleased() noexcept;

  // Set before it is, and cleared afterwards under the mutex: a thread that has ended is not held.
  std::atomic<bool> held_{false};
  std::atomic<bool> dismissed_{false};
  std::mutex mutex_;     // not taken by a loop that is kept from running
  cpu_set_t allowed_{};  // under the mutex: where it may run when it is not held
  // Loop only.
  pid_t thread_ = 0;
  uint32_t faults_ = 0;    // of it, and of nobody else
  bool is_noted_ = false;  // one of them, since it followed
  Clock::time_point noted_at_{};
  State state_ = State::kApart;
  std::optional<int> held_on_;
  Clock::time_point looked_at_{};
  uint32_t patience_ = 1;  // how many times as long as usual it waits until it looks again
};

}  // namespace uffd

#endif  // UFFD_CORE_LOOP_PLACEMENT_H_
