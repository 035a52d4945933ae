#include "core/loop_placement.h"

#include <algorithm>

namespace uffd {
namespace {

// A look takes 9 us, and to go somewhere in vain 100.
constexpr std::chrono::milliseconds kBetweenLooks(1);
constexpr uint32_t kMostPatience = 64;

}  // namespace

void LoopPlacement::Follow(pid_t thread, Clock::time_point now) noexcept {
  if (thread == 0 || !allowed_ || !IsTimeToLook(now)) return;
  if (widened_.exchange(false)) held_on_.reset();
  const std::optional<int> processor = ProcessorOf(thread);
  if (processor && processor == held_on_) {
    state_ = State::kBeside;
    patience_ = 1;
    return;
  }
  if (processor && state_ != State::kArriving && GoTo(*processor)) {
    state_ = State::kArriving;
    return;
  }
  state_ = State::kApart;
  patience_ = std::min(patience_ * 2, kMostPatience);
  if (held_on_) LetRunOn(pthread_self(), *allowed_);
  held_on_.reset();
}

// Also right after it went somewhere: the processor that it left is idle, and the kernel may have
// woken the other thread on that one.
bool LoopPlacement::IsTimeToLook(Clock::time_point now) noexcept {
  if (state_ != State::kArriving && now - looked_at_ < kBetweenLooks * patience_) return false;
  looked_at_ = now;
  return true;
}

bool LoopPlacement::GoTo(int processor) noexcept {
  if (!CPU_ISSET(processor, &*allowed_)) return false;
  cpu_set_t there;
  CPU_ZERO(&there);
  CPU_SET(processor, &there);
  if (!LetRunOn(pthread_self(), there)) return false;
  held_on_ = processor;
  return true;
}

void LoopPlacement::Widen(pthread_t loop) noexcept {
  if (!allowed_) return;
  LetRunOn(loop, *allowed_);
  // Afterwards: a loop that sees this holds itself anew.
  widened_ = true;
}

}  // namespace uffd
