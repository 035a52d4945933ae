#include "core/loop_placement.h"

#include <algorithm>

#include "core/native_thread.h"

namespace uffd {
namespace {

// On the machine of docs/performance.md a look takes 9 us, and to go somewhere in vain 100.
constexpr std::chrono::milliseconds kBetweenLooks(1);
constexpr uint32_t kMostPatience = 64;

cpu_set_t Only(int processor) noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  return set;
}

}  // namespace

void LoopPlacement::Follow(pid_t thread) noexcept {
  if (rescued_) return LetGo();
  if (thread == 0 || !TakeTurnToLook() || !MayChooseProcessors()) return;
  const std::optional<int> processor = ProcessorOf(thread);
  if (processor && processor == held_on_) {
    state_ = State::kBeside;
    patience_ = 1;
    return;
  }
  if (processor && state_ != State::kArriving && HoldOn(*processor)) {
    state_ = State::kArriving;
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
  if (!LetRunOn(pthread_self(), Only(processor))) {
    held_ = held_on_.has_value();
    return false;
  }
  held_on_ = processor;
  return true;
}

void LoopPlacement::LetGo() noexcept {
  state_ = State::kApart;
  if (!held_on_) return;
  const std::optional<cpu_set_t> own = OwnProcessors();
  if (own && IsWhereItIsHeld(*own)) LetRunOn(pthread_self(), allowed_);
  held_on_.reset();
  const std::lock_guard<std::mutex> lock(mutex_);
  held_ = false;
}

// Somebody else may have decided meanwhile where it runs.
bool LoopPlacement::IsWhereItIsHeld(const cpu_set_t& own) const noexcept {
  if (!held_on_) return false;
  const cpu_set_t held = Only(*held_on_);
  return CPU_EQUAL(&own, &held);
}

// A loop that holds itself at this very moment may be held afterwards: whoever finds it without
// progress comes again.
void LoopPlacement::Rescue(pthread_t loop) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!held_) return;
  rescued_ = true;
  LetRunOn(loop, allowed_);
}

}  // namespace uffd
