// Between reading an event and applying it the memory has changed already, and nobody but the fault
// loop knows: what others install then may be meant for pages that went (test 69, B23). They pass
// this gate, which the loop keeps closed meanwhile.
#ifndef UFFD_CORE_EVENT_GATE_H_
#define UFFD_CORE_EVENT_GATE_H_

#include <sched.h>

#include <atomic>
#include <cstdint>

namespace uffd {

// May be passed in a signal handler. Inside it: one system call that waits for nobody.
class EventGate {
 public:
  class Pass {
   public:
    explicit Pass(EventGate* gate) noexcept : gate_(gate) {
      for (;;) {
        gate_->inside_++;
        if (!gate_->closed_) return;
        gate_->inside_--;
        while (gate_->closed_) sched_yield();
      }
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass() { gate_->inside_--; }

   private:
    EventGate* const gate_;
  };

  // By the fault loop.
  void Close() noexcept {
    closed_ = true;
    while (inside_ != 0) sched_yield();
  }
  void Open() noexcept { closed_ = false; }

 private:
  std::atomic<bool> closed_{false};
  std::atomic<uint32_t> inside_{0};
};

}  // namespace uffd

#endif  // UFFD_CORE_EVENT_GATE_H_
