// What becomes of each fault and event of one userfaultfd: the decisions, and the one lock under
// which they are made. The fault loop reads and calls, and so may an event loop that is awake
// (reading_loan.h); JavaScript threads resolve and wake.
//
// `resolve: 'native'`: the loop ends the fault and records it. `resolve: 'handler'`: the fault is
// handed over and stays open until JavaScript claims it, or the loop ends it because
//   - the thread that consumes the events raised it (it would wait for itself),
//   - its deadline passed,
//   - nobody consumes the events any more.
#ifndef UFFD_CORE_FAULT_SERVER_H_
#define UFFD_CORE_FAULT_SERVER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "core/event_gate.h"
#include "core/fault.h"
#include "core/fault_queue.h"
#include "core/fault_resolver.h"
#include "core/forked_children.h"
#include "core/open_faults.h"
#include "core/page_source.h"
#include "core/registration_table.h"
#include "core/wake_log.h"

namespace uffd {

// Called when the reader has something to look at. Must not block or allocate.
class Notifier {
 public:
  virtual ~Notifier() = default;
  virtual void Poke() noexcept = 0;
};

class FaultServer {
 public:
  using Clock = OpenFaults::Clock;
  struct Claim {
    Range page;
    Registration registration;
    FaultReason reason;
  };

  // `consumer_thread`: gettid(2) of the thread whose event loop reads the events.
  FaultServer(Userfaultfd* uffd, RegistrationTable* table, FaultQueue* queue, Notifier* notifier,
              uint32_t consumer_thread) noexcept;
  FaultServer(const FaultServer&) = delete;
  FaultServer& operator=(const FaultServer&) = delete;

  // The stamp of what is read next, by any thread.
  uint64_t Now() const noexcept { return wake_log_.Now(); }

  // Loop thread.

  Outcome Serve(const Event& fault) noexcept;
  // Anything but a page fault: applied to the registrations and the open faults, then recorded.
  void Observe(Event event) noexcept;
  // The same of a fork. `keep`: its child's descriptor may stay open, if somebody is there to take
  // it.
  void ObserveFork(Event event, bool keep) noexcept;
  ForkedChildren& Children() noexcept { return children_; }
  // For who fills or marks pages beside the loop.
  FaultResolver& Resolver() noexcept { return resolver_; }
  // Closed from the reading of events until they were applied.
  EventGate& Gate() noexcept { return gate_; }
  bool IsDue() noexcept;
  // Ends what is due.
  void ServeDue() noexcept;
  // When ServeDue must be called next.
  std::optional<Clock::time_point> NextDue() noexcept;
  // The errno that made the descriptor unusable, 0 while it is well.
  int FatalError() const noexcept { return fatal_error_.load(); }
  void Fail(int error) noexcept;
  void FailUnless(const Status& done) noexcept;

  // Any thread.

  // Before memory is registered with this policy.
  Status Prepare(const Policy& policy) noexcept;
  // JavaScript unprotected, filled or woke this range: what was read of it before is over.
  void Woken(Range range) noexcept;
  // The registration of this range ended. Returns when a fault of it that was just resolved is
  // recorded.
  void Unregistered(Range range) noexcept;
  void SetConsumer(bool present) noexcept;
  // From now on everything that is or will be open ends at once; of one registration that closes.
  void EndAll() noexcept;
  void EndAllOf(uint32_t registration) noexcept;
  bool HasOpenFaults() noexcept;
  // For the watchdog, which waits for nobody: false when it cannot tell now.
  bool SeesOpenFaults() noexcept;
  bool HasOpenFaultsOf(uint32_t registration) noexcept;
  // The next pages of a registration, from this address on and at most `most` bytes, that are not
  // zeros by themselves: they have bytes in its source, or were to be poisoned. Empty: none.
  Range NextOwed(const Registration& registration, uint64_t from, uint64_t most) noexcept;
  // Whether the loop is reading a source, and how often that began or ended.
  bool IsLoading() const noexcept { return buffer_.IsLoading(); }
  uint64_t LoadSteps() const noexcept { return buffer_.Steps(); }
  // A fault was not ended when it was due. Waits for nothing, so that it can be asked of a loop
  // that stands still.
  bool IsOverdue() noexcept;
  // Of a fault for a handler that another thread than the loop's has read: handed over, also if it
  // must be ended without JavaScript, which is then due. True: it is, and the loop must be told.
  bool HandOverAside(const Event& fault) noexcept;
  // Whether the loop ended faults of the consumer's own thread, or of one it waits for.
  bool HasOwnFaultsLately() const noexcept;
  // The way of a handler: claim, answer, then finish or abandon. Nothing when it has ended, or its
  // page was given back.
  std::optional<Claim> ClaimFault(uint64_t id) noexcept;
  std::optional<FaultResolver::Answer> AnswerClaim(uint64_t id, const Claim& claim, bool poison,
                                                   const uint8_t* bytes, bool arm) noexcept;
  void Finish(uint64_t id, Ending ending) noexcept;
  void Abandon(uint64_t id) noexcept;
  Ending EndingOf(uint64_t id) noexcept;

 private:
  enum class Consumer : uint8_t { kNotYet, kPresent, kGone };
  // A fault that is to be ended now, without JavaScript.
  struct Task {
    Event fault;
    EndedBy by;
    uint64_t open_id;  // 0: it was never handed over
  };

  Outcome EndNatively(const Task& task, std::optional<Registration> registration) noexcept;
  // `writable`: what is unprotected for a write; the page, or more.
  FaultResolver::Answer AnswerOf(const Task& task, Range writable, const Registration& registration,
                                 const Result<const uint8_t*>& loaded) noexcept;
  Result<const uint8_t*> Load(Range page, const Registration& registration) noexcept;
  std::optional<EndedBy> ReasonToEndNow(const Event& fault,
                                        const Registration& registration) const noexcept;
  std::optional<Registration> Current(const Event& fault, uint64_t open_id) noexcept;
  Outcome HandOver(const Event& fault, const Policy& policy) noexcept;
  void NoteGivenBack(Range range) noexcept;
  // The unclaimed ones like it.
  void EndOpen(const Event& fault, Ending ending) noexcept;
  // Of that page, for that reason.
  template <typename Visit>
  void ForEachOpenLike(const Event& fault, Visit visit) noexcept {
    open_.ForEachOpen([&](OpenFaults::Entry* entry) {
      const bool same =
          entry->fault.page.start == fault.page.start && entry->fault.reason == fault.reason;
      if (same) visit(entry);
    });
  }
  void EndRemoved(Range range) noexcept;
  bool IsRemoved(uint64_t id) noexcept;
  void MakeDue(EndedBy by, uint32_t registration = 0) noexcept;
  void Record(const Event& event) noexcept;

  static constexpr size_t kDueAtOnce = 64;

  Userfaultfd* const uffd_;
  RegistrationTable* const table_;
  FaultQueue* const queue_;
  Notifier* const notifier_;
  const uint32_t consumer_thread_;
  FaultResolver resolver_;
  EventGate gate_;
  std::atomic<int> fatal_error_{0};
  std::atomic<Clock::time_point> last_own_fault_{};

  // Held for one decision and the ioctl that carries it out; never while user memory is touched, a
  // source loaded, malloc called (a thread that forks has its locks) or a result awaited.
  std::mutex mutex_;
  WakeLog wake_log_;
  OpenFaults open_;
  Consumer consumer_ = Consumer::kNotYet;
  bool ending_ = false;
  SourceBuffer buffer_;
  ForkedChildren children_;
};

}  // namespace uffd

#endif  // UFFD_CORE_FAULT_SERVER_H_
