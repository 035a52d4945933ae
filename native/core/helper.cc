#include "core/helper.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/native_thread.h"
#include "core/result.h"
#include "core/stand_ins.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPatience = 4096;
constexpr useconds_t kNapMicroseconds = 200;
// Who was helped often has something else for it right after.
constexpr std::chrono::microseconds kStaysAwake(100);
// What takes longer may have lost its processor.
constexpr std::chrono::microseconds kUsualPart(20);
constexpr unsigned kBusyForSure = 8;

}  // namespace

// It never ends. Whoever has taken it has it until HandOff, CallOff or End.
class Helper::Thread {
 public:
  bool TakeIfAwake() noexcept { return IsAwake() && TakeIfResting(); }
  bool TakeIfResting() noexcept { return Leave(State::kResting, State::kTaken); }
  // It has not noticed yet.
  bool TakeIfCalledOff() noexcept { return Leave(State::kCalledOff, State::kTaken); }
  // False: there is one already, or (`*failed`) the system makes none.
  bool Create(bool* failed) noexcept;
  void Give(Work* work) noexcept {
    principal_ = static_cast<uint32_t>(gettid());
    work_ = work;
    SetState(State::kStarted);
  }
  void HandOff(std::unique_ptr<Work> work) noexcept {
    work_ = work.release();
    SetState(State::kHandedOff);
  }
  // False when it has begun.
  bool CallOff() noexcept;
  void End() noexcept;
  void RunOn(const cpu_set_t& processors) const noexcept { LetRunOn(id_, processors); }
  void RunAnywhere() const noexcept {
    if (const auto processors = OwnProcessors()) RunOn(*processors);
  }
  // Next on this thread's processor, and then wherever it is better off.
  void ComeHere() const noexcept {
    if (const auto processor = ThisProcessor()) RunOn(*processor);
    RunAnywhere();
  }

  // It rests, and does not sleep yet.
  bool IsAwake() const noexcept { return is_awake_ && state_ == State::kResting; }
  bool Is(pid_t thread) const noexcept { return kernel_id_ == thread; }
  bool IsAtWork() const noexcept { return state_ >= State::kStarted; }
  // It has not come to what nobody waits for, or was called off.
  bool IsLate() const noexcept {
    return state_ == State::kHandedOff || state_ == State::kCalledOff;
  }
  // In a forked child, which has no such thread.
  void Forget() noexcept {
    state_ = State::kAbsent;
    kernel_id_ = 0;
  }

 private:
  // None is at work before kStarted.
  enum class State : int {
    kAbsent,
    kResting,
    kTaken,
    kDone,
    kStarted,
    kHandedOff,
    kBegun,
    kOver,
    kCalledOff
  };

  static void* Main(void* self) noexcept;

  bool Leave(State from, State to) noexcept { return state_.compare_exchange_strong(from, to); }
  void SetState(State state) noexcept {
    state_ = state;
    state_.notify_all();
  }
  void AwaitWork() noexcept;
  void Run() noexcept;
  bool HelpIfStarted() noexcept;
  void Rest(State state) noexcept;
  void Help() noexcept;
  void DoHandedOff() noexcept;

  std::atomic<State> state_{State::kAbsent};
  std::atomic<bool> is_awake_{false};
  pthread_t id_{};
  std::atomic<pid_t> kernel_id_{0};
  uint32_t principal_ = 0;  // who is helped, and waits
  Work* work_ = nullptr;
};

class Helper::Threads {
 public:
  // Null, like the next: there are too many already, or the system makes no more.
  static Thread* Take() noexcept {
    Thread* const resting = TakeResting();
    return resting != nullptr ? resting : Make();
  }

  // One for what nobody waits for.
  static Thread* TakeForNobody() noexcept {
    if (Thread* const resting = TakeResting()) return resting;
    for (Thread& each : All()) {
      if (each.TakeIfCalledOff()) return &each;
    }
    return Make();
  }

  // What comes next would not be run either.
  static bool IsAnyLate() noexcept {
    const auto& threads = All();
    return std::any_of(threads.begin(), threads.end(),
                       [](const Thread& each) { return each.IsLate(); });
  }

  static std::array<Thread, StandIn::kMost>& All() noexcept {
    // Never destroyed: these threads are there until the process ends.
    static std::array<Thread, StandIn::kMost> threads;
    static_assert(std::is_trivially_destructible_v<Thread>);
    static std::atomic<pid_t> process{getpid()};
    const pid_t own = getpid();
    if (process.exchange(own) != own) {
      for (Thread& each : threads) each.Forget();
    }
    return threads;
  }

  static size_t IndexOf(const Thread* thread) noexcept {
    return static_cast<size_t>(thread - All().data());
  }

 private:
  static Thread* TakeResting() noexcept {
    for (Thread& each : All()) {
      if (each.TakeIfAwake()) return &each;
    }
    for (Thread& each : All()) {
      if (each.TakeIfResting()) return &each;
    }
    return nullptr;
  }

  static Thread* Make() noexcept {
    bool failed = false;
    for (Thread& each : All()) {
      if (each.Create(&failed)) return &each;
      if (failed) break;
    }
    return nullptr;
  }
};

bool Helper::Thread::Create(bool* failed) noexcept {
  if (!Leave(State::kAbsent, State::kTaken)) return false;
  const Result<pthread_t> id = StartNativeThread("uffd-helper", &Thread::Main, this);
  if (!id) {
    state_ = State::kAbsent;
    *failed = true;
    return false;
  }
  id_ = id.Value();
  pthread_detach(id_);
  return true;
}

bool Helper::Thread::CallOff() noexcept {
  // It may be long until a busy processor comes to it.
  if (state_ == State::kStarted) RunAnywhere();
  return Leave(State::kStarted, State::kCalledOff);
}

void Helper::Thread::End() noexcept {
  SetState(State::kOver);
  const auto usual = Clock::now() + kUsualPart;
  while (state_ == State::kOver && Clock::now() < usual) sched_yield();
  if (state_ == State::kOver) {
    // Its processor may have been taken from it, and this one will be idle.
    ComeHere();
    state_.wait(State::kOver);
  }
  // Only now, and not by the thread itself: who had it next could be waiting for it before this one
  // has noticed that it need not any more.
  state_ = State::kResting;
}

void* Helper::Thread::Main(void* self) noexcept {
  // Work that reads memory may come to a page that was given back, which is loaded by whom touches
  // it (SigbusResolver).
  sigset_t faults;
  sigemptyset(&faults);
  sigaddset(&faults, SIGBUS);
  pthread_sigmask(SIG_UNBLOCK, &faults, nullptr);
  auto* const thread = static_cast<Thread*>(self);
  thread->kernel_id_ = gettid();
  for (;;) {
    thread->AwaitWork();
    thread->Run();
  }
}

void Helper::Thread::AwaitWork() noexcept {
  const auto sleeps = Clock::now() + kStaysAwake;
  while (!IsAtWork() && Clock::now() < sleeps) sched_yield();
  is_awake_ = false;
  for (State state = state_; state < State::kStarted; state = state_) state_.wait(state);
}

void Helper::Thread::Run() noexcept {
  UFFD_BARRIER("helper begins", nullptr);
  if (HelpIfStarted()) {
    Rest(State::kDone);
    return;
  }
  is_awake_ = true;
  // In this order: one that was called off may be handed something.
  if (Leave(State::kCalledOff, State::kResting) || !Leave(State::kHandedOff, State::kBegun)) return;
  DoHandedOff();
  Rest(State::kResting);
}

bool Helper::Thread::HelpIfStarted() noexcept {
  if (state_ != State::kStarted) return false;
  const StandIn stand_in(Threads::IndexOf(this), principal_);
  if (!Leave(State::kStarted, State::kBegun)) return false;
  Help();
  return true;
}

void Helper::Thread::Rest(State state) noexcept {
  is_awake_ = true;
  SetState(state);
}

void Helper::Thread::DoHandedOff() noexcept {
  const std::unique_ptr<Work> work(work_);
  while (work->DoPart()) {
  }
}

void Helper::Thread::Help() noexcept {
  for (int in_vain = 0; state_ != State::kOver;) {
    UFFD_BARRIER("helper takes a part", nullptr);
    if (work_->DoPart()) {
      in_vain = 0;
    } else if (++in_vain < kPatience) {
      // The next part, or the end, is a few microseconds away: sleeping takes longer.
      sched_yield();
    } else {
      // Who is helped waits for something itself.
      usleep(kNapMicroseconds);
    }
  }
}

bool Helper::HasProcessor() noexcept {
  if (Threads::IsAnyLate()) return false;
  const auto& threads = Threads::All();
  return std::any_of(threads.begin(), threads.end(),
                     [](const Thread& each) { return each.IsAwake(); }) ||
         HasIdleProcessor();
}

bool Helper::Chance::HasProcessor() noexcept {
  busy_in_a_row_ = Helper::HasProcessor() ? 0 : std::min(busy_in_a_row_ + 1, kBusyForSure);
  return busy_in_a_row_ < kBusyForSure;
}

bool Helper::Start(Work* work) noexcept {
  if (Threads::IsAnyLate()) return false;
  const auto others = OtherProcessors();
  if (!others && !UFFD_HELPS_ALWAYS()) return false;
  thread_ = Threads::Take();
  if (thread_ == nullptr) return false;
  // Left to itself the kernel may choose this thread's processor although another one is idle.
  if (others) thread_->RunOn(*others);
  thread_->Give(work);
  return true;
}

bool Helper::HandOff(std::unique_ptr<Work> work) noexcept {
  Thread* const thread = Threads::TakeForNobody();
  if (thread == nullptr) return false;
  if (const auto others = OtherProcessors()) thread->RunOn(*others);
  thread->HandOff(std::move(work));
  return true;
}

bool Helper::Is(pid_t thread) noexcept {
  const auto& threads = Threads::All();
  return std::any_of(threads.begin(), threads.end(),
                     [thread](const Thread& each) { return each.Is(thread); });
}

void Helper::ComeHere() noexcept {
  for (const Thread& each : Threads::All()) {
    if (each.IsAtWork()) each.ComeHere();
  }
}

#ifdef UFFD_TEST_BARRIERS
int Helper::AtWork() noexcept {
  const auto& threads = Threads::All();
  return static_cast<int>(std::count_if(threads.begin(), threads.end(),
                                        [](const Thread& each) { return each.IsAtWork(); }));
}
#endif

std::optional<std::chrono::nanoseconds> Helper::End() noexcept {
  Thread* const thread = std::exchange(thread_, nullptr);
  if (thread == nullptr) return std::nullopt;
  const auto waits_since = Clock::now();
  if (thread->CallOff()) return std::nullopt;
  thread->End();
  return Clock::now() - waits_since;
}

}  // namespace uffd
