#include "core/loop_placement.h"

#include <algorithm>
#include <utility>

#include "core/native_thread.h"

namespace uffd {
namespace {

// On the machine of docs/performance.md a look takes 9 us, and to go somewhere in vain 100.
constexpr std::chrono::milliseconds kBetweenLooks(1);
constexpr uint32_t kMostPatience = 64;
// If others fault as well, one of them does by then most often.
constexpr uint32_t kFirstFaults = 8;

}  // namespace

void LoopPlacement::Note(pid_t thread, Clock::time_point read_at) noexcept {
  if (thread_ == 0) thread_ = thread;
  faults_++;
  is_noted_ = true;
  noted_at_ = read_at;
  if (thread != thread_) dismissed_ = true;
}

void LoopPlacement::Follow() noexcept {
  if (dismissed_) return LetGo();
  if (!std::exchange(is_noted_, false)) {
    if (held_on_ && Clock::now() - noted_at_ >= std::chrono::milliseconds(kHoldMs)) LetGo();
    return;
  }
  if (faults_ < kFirstFaults || !TakeTurnToLook() || !MayChooseProcessors()) return;
  const std::optional<int> processor = ProcessorOf(thread_);
  if (processor && processor == held_on_) {
    state_ = State::kBeside;
    patience_ = 1;
    return;
  }
  if (processor && state_ != State::kArriving && HoldOn(*processor)) {
    state_ = State::kArriving;
    if (dismissed_) LetGo();
    return;
  }
  LetGo();
  patience_ = std::min(patience_ * 2, kMostPatience);
}

// Also right after it went somewhere: the processor that it left is idle, and the kernel may have
// woken the other thread on that one.
bool LoopPlacement::TakeTurnToLook() noexcept {
  const auto now = Clock::now();
  if (state_ != State::kArriving && now - looked_at_ < kBetweenLooks * patience_) return false;
  looked_at_ = now;
  return true;
}

bool LoopPlacement::HoldOn(int processor) noexcept {
  const std::optional<cpu_set_t> own = OwnProcessors();
  // Behind whoever is at work there, one of lower priority would wait for long, and one of a
  // real-time class for ever.
  if (!own || !HasOrdinaryPriority()) return false;
  if (!IsWhereItIsHeld(*own)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    allowed_ = *own;
  }
  if (!CPU_ISSET(processor, &allowed_)) return false;
  held_ = true;
  const bool holds = LetRunOn(pthread_self(), OnlyProcessor(processor));
  if (holds) held_on_ = processor;
  if (!held_on_) SetReleased();
  return holds;
}

void LoopPlacement::LetGo() noexcept {
  state_ = State::kApart;
  if (!held_on_) return;
  const std::optional<cpu_set_t> own = OwnProcessors();
  if (own && IsWhereItIsHeld(*own)) LetRunOn(pthread_self(), allowed_);
  held_on_.reset();
  SetReleased();
}

void LoopPlacement::SetReleased() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  held_ = false;
}

// Somebody else may have decided meanwhile where it runs.
bool LoopPlacement::IsWhereItIsHeld(const cpu_set_t& own) const noexcept {
  if (!held_on_) return false;
  const cpu_set_t held = OnlyProcessor(*held_on_);
  return CPU_EQUAL(&own, &held);
}

// A loop that is just about to hold itself looks once more when it has.
void LoopPlacement::Dismiss(pthread_t loop) noexcept {
  dismissed_ = true;
  const std::lock_guard<std::mutex> lock(mutex_);
  cpu_set_t own;
  if (!held_ || pthread_getaffinity_np(loop, sizeof(own), &own) != 0) return;
  // Several: it is not held yet, or somebody else has decided where it runs.
  if (CPU_COUNT(&own) == 1) LetRunOn(loop, allowed_);
}

}  // namespace uffd
