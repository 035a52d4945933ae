#include "core/helper.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <utility>

#include "core/native_thread.h"
#include "core/stand_ins.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

constexpr int kPatience = 4096;
constexpr useconds_t kNapMicroseconds = 200;

// Helpers that were called off before they began, and that nobody has run since: the next would not
// run either. (In a forked child they never will be: it goes on without help.)
std::atomic<int> g_called_off{0};

}  // namespace

// What the helper and who is helped share.
class Helper::Thread {
 public:
  explicit Thread(std::shared_ptr<Work> work) noexcept
      : principal_(static_cast<uint32_t>(gettid())), work_(std::move(work)) {}

  // Both once: false for the one that comes second.
  bool Begin() noexcept { return Leave(State::kStarted, State::kBegun); }
  bool CallOff() noexcept {
    if (!Leave(State::kStarted, State::kCalledOff)) return false;
    g_called_off++;
    return true;
  }
  void End() noexcept { state_ = State::kOver; }

  static void* Main(void* arg) noexcept {
    const std::unique_ptr<std::shared_ptr<Thread>> self(static_cast<std::shared_ptr<Thread>*>(arg));
    // Work that reads memory may come to a page that was given back, which is loaded by whom
    // touches it (SigbusResolver).
    sigset_t faults;
    sigemptyset(&faults);
    sigaddset(&faults, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &faults, nullptr);
    UFFD_BARRIER("helper begins", nullptr);
    (*self)->Run();
    return nullptr;
  }

 private:
  enum class State : uint8_t { kStarted, kBegun, kCalledOff, kOver };

  bool Leave(State from, State to) noexcept { return state_.compare_exchange_strong(from, to); }
  bool IsOver() const noexcept { return state_ == State::kCalledOff || state_ == State::kOver; }

  void Run() noexcept {
    const StandIn stand_in(principal_);
    if (!stand_in.IsKnown()) {
      // Who made this thread sets where it runs until then, and may not find it gone.
      while (!IsOver()) usleep(kNapMicroseconds);
    } else if (Begin()) {
      Help();
    }
    if (state_ == State::kCalledOff) g_called_off--;
  }

  void Help() noexcept {
    for (int in_vain = 0; !IsOver();) {
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

  const uint32_t principal_;  // who is helped, and waits
  const std::shared_ptr<Work> work_;
  std::atomic<State> state_{State::kStarted};
};

bool Helper::Start(const char* name, std::shared_ptr<Work> work) noexcept {
  if (g_called_off > 0) return false;
  auto shared = std::make_shared<Thread>(std::move(work));
  auto own = std::make_unique<std::shared_ptr<Thread>>(shared);
  const Result<pthread_t> id = StartThreadBeside(name, &Thread::Main, own.get());
  if (!id) return false;
  static_cast<void>(own.release());  // the thread's
  id_ = id.Value();
  thread_ = std::move(shared);
  return true;
}

std::optional<std::chrono::nanoseconds> Helper::End() noexcept {
  if (thread_ == nullptr) return std::nullopt;
  // Its processor may have been taken from it, and this one will be idle.
  LetRunAnywhere(id_);
  const auto waits_since = std::chrono::steady_clock::now();
  const std::shared_ptr<Thread> thread = std::exchange(thread_, nullptr);
  if (thread->CallOff()) {
    // It may be long until a busy processor comes to it.
    pthread_detach(id_);
    return std::nullopt;
  }
  thread->End();
  pthread_join(id_, nullptr);
  return std::chrono::steady_clock::now() - waits_since;
}

}  // namespace uffd
