// One open userfaultfd at work: its descriptor, its registrations, its loop and its queue, and the
// one routine that takes all of it down without leaving a thread asleep.
#ifndef UFFD_CORE_SESSION_H_
#define UFFD_CORE_SESSION_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/awake_reader.h"
#include "core/ending_patience.h"
#include "core/fault_loop.h"
#include "core/fault_queue.h"
#include "core/fault_server.h"
#include "core/registration_table.h"
#include "core/userfaultfd.h"

namespace uffd {

class Session final : public AwakeReader, public std::enable_shared_from_this<Session> {
 public:
  struct Opened;
  struct Registered {
    uint32_t id;
    uint64_t ioctls;
  };

  // `notifier` must live until Release() has returned.
  enum class Loop { kSleeps, kStaysAwake };
  static Opened Open(const OpenRequest& request, Notifier* notifier,
                     Loop loop = Loop::kSleeps) noexcept;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() override;

  // Every method below may be called from any thread and fails with ESHUTDOWN once released.
  Result<Registered> Register(Range range, const std::shared_ptr<const Policy>& policy,
                              std::shared_ptr<Mapping> memory) noexcept;
  // Who waits in a fault of it gets what it waits for first; see EndOpenFaults. ENOMEM at the limit
  // of mappings: it is registered and served as before, with none of it armed.
  Status Unregister(uint32_t id) noexcept;
  // A part of a registration, or of several, whose faults are answered with what is read without
  // them, too.
  Status Unregister(Range range) noexcept;
  // Arms or disarms. When it fails half way (any error but EAGAIN) all of the range is disarmed.
  Status WriteProtect(Range range, uint64_t mode) noexcept;
  // Arms as WriteProtect does, and takes no lock of the loop's: for who holds one that the loop
  // takes.
  Status Arm(Range range) noexcept;
  // For a signal handler on the thread that faulted: takes no lock, wakes nobody.
  Status UnprotectInSignal(Range page) noexcept;
  // For threads that load missing pages beside the loop, also in a signal handler; with `bytes`, or
  // zeros. Nothing happens, and the answer is kDeferred, while the memory is changing or where a
  // page is needed no more: look again.
  FaultResolver::Answer FillPage(const Registration& registration, Range page,
                                 const uint8_t* bytes) noexcept;
  FaultResolver::Answer PoisonPage(Range page) noexcept;
  // The same of several pages with bytes, as far as it comes; EAGAIN: look again.
  Partial FillPages(const Registration& registration, Range pages, const uint8_t* bytes) noexcept;
  Status Wake(Range range) noexcept;
  Partial Copy(Range destination, const void* source, uint64_t mode) noexcept;
  Partial Zeropage(Range range, uint64_t mode) noexcept;
  Partial Continue(Range range, uint64_t mode) noexcept;
  Partial Poison(Range range, uint64_t mode) noexcept;
  Partial Move(Range destination, uint64_t source, uint64_t mode) noexcept;
  Result<uint64_t> ArmedBytes(Range range) noexcept;
  // Whether a thread that reads this memory may have to wait for a userfaultfd of this process.
  bool MayFault(Range range) const noexcept;

  // Fills pages that are registered here with zeros and takes them out of the set, until one fails.
  Status ZeroRegistered(RangeSet* pages) noexcept;

  // Ends a fault that was handed over: with `bytes` (one page), or without by what answers its
  // reason.
  struct Resolved {
    Ending ending;  // by kHandler: this call did it
    int error = 0;  // it is still open
  };
  enum class Answer { kFill, kPoison };
  enum class Protect { kKeep, kYes };
  Resolved ResolveFault(uint64_t id, Answer answer, const uint8_t* bytes, Protect protect) noexcept;
  Ending EndingOf(uint64_t id) noexcept { return server_->EndingOf(id); }
  // The userfaultfds of forked children that events named.
  bool TakeChild(uint64_t id) noexcept;
  bool IsChildOpen(uint64_t id) noexcept { return server_->Children().IsOpen(id); }
  Partial OnChild(uint64_t id, ChildCall call, Range range, const void* bytes,
                  uint64_t mode) noexcept;
  void CloseChild(uint64_t id) noexcept;
  // Whether somebody reads the events.
  void SetConsumer(bool present) noexcept;

  // Its faults are answered natively until the process ends, and a slow disk does not make it
  // stuck: neither the end of the process nor a watchdog in a hurry releases it.
  void ServeToTheEnd() noexcept { to_the_end_ = true; }
  bool ServesToTheEnd() const noexcept { return to_the_end_.load(); }
  bool TakeAllAnswered() noexcept override {
    return answered_.exchange(false) && !server_->SeesOpenFaults();
  }
  void ReadFaults() noexcept override;
  void LeaveReading() noexcept override;
  bool HasOpenFaults() noexcept { return server_->HasOpenFaults(); }

  // The release routine. Whoever calls it (close, the exit listener, the environment's clean-up,
  // the watchdog), when it returns no thread sleeps in a fault of this userfaultfd and none will.
  using Haste = EndingPatience::Haste;
  void Release(Haste haste = Haste::kNone) noexcept;
  // Its first part: the loop ends what is open and what was waiting when this was called, as far as
  // it can in the time there is.
  void EndOpenFaults(Haste haste, EndingPatience::Clock::time_point since) noexcept;
  // Its second part, which does not wait for the loop: no new calls, every sleeper woken.
  void FreeSleepers() noexcept;
  bool Released() const noexcept { return closed_.load(); }
  // After Release: something would not end and still uses the notifier.
  bool Leaked() const noexcept { return leaked_.load(); }

  // A fault that was deferred may be resolved now.
  void Retry() noexcept { loop_->Poke(); }
  // Waits until the loop has applied every event that was read before this call. False when it
  // stands still or was released.
  bool AwaitEvents() noexcept;

  bool Pop(Event* event) noexcept { return queue_->Pop(event); }
  bool HasEvents() const noexcept { return !queue_->Empty(); }
  uint64_t Missed() const noexcept { return queue_->Missed(); }
  const RegistrationTable& Table() const noexcept { return table_; }
  uint64_t Features() const noexcept { return uffd_.Features(); }
  Access OpenedBy() const noexcept { return uffd_.OpenedBy(); }

  // The watchdog's question, asked at every tick: must this session be released? `kStuckErrno` or
  // the loop's fatal errno is then what FailedWith() reports.
  bool NeedsRescue() noexcept;
  int FailedWith() const noexcept { return failed_with_.load(); }
  // A loop that stood still while a fault waited.
  static constexpr int kStuckErrno = 110;  // ETIMEDOUT

 private:
  class InFlight;
  Status Mark(Range range, uint64_t mode) noexcept;

  Session(Userfaultfd uffd, std::unique_ptr<FaultQueue> queue, Notifier* notifier) noexcept;
  Status Start(Loop loop) noexcept;
  // A loop that loads from a source must not come to a page that is missing there.
  static bool WouldWaitForLoop(Range range, const Policy& policy) noexcept;
  // Frees every sleeper of the registered ranges. UNREGISTER first, WAKE after: the other order
  // leaves those asleep who fault in between, and UNREGISTER alone does not wake (test 13, A3).
  void UnregisterAndWakeAll() noexcept;
  // Ends the registration of a range with its open faults. Fails when it is still registered.
  Status EndRegistrationOf(Range range) noexcept;
  void PoisonNeeded(const Registration& registration) noexcept;
  // What the loop could not answer must not become zeros.
  void PoisonOwed(const Registration& registration) noexcept;
  bool OwesBytes() const noexcept;
  // Waits until the loop has served what was waiting in it when this was called (where that `owes`
  // something), and has no open faults of this registration (0: at all). False: patience ended, or
  // the session was released.
  bool AwaitServed(uint32_t id, bool owes, EndingPatience patience) noexcept;
  bool EndOpenFaultsOf(uint32_t id) noexcept;
  bool CallsEnded() const noexcept;
  void ReadWhatIsLeft() noexcept;
  void Leak() noexcept;
  bool Owns(Range range) const noexcept;
  // Repeats `step` on what is left of the range while the mapping is changing.
  template <typename Step>
  Partial Fill(Range range, bool wakes, Step step) noexcept;
  template <typename Step>
  Partial FillWhileChanging(Range range, Step step) noexcept;
  template <typename Step>
  auto WhileChanging(Step step) noexcept;

  Userfaultfd uffd_;
  std::unique_ptr<FaultQueue> queue_;
  RegistrationTable table_;
  Notifier* const notifier_;
  std::atomic<bool> answered_{false};  // a fault, by a handler
  // There are no events to be applied and never were faults but those of handlers.
  std::atomic<bool> leaves_all_to_handlers_;
  std::unique_ptr<FaultServer> server_;
  std::unique_ptr<FaultLoop> loop_;

  std::atomic<bool> to_the_end_{false};
  std::atomic<bool> closed_{false};
  std::atomic<bool> unserved_{false};  // the loop did not come to the end of its faults
  std::atomic<Haste> haste_{Haste::kNone};
  std::atomic<uint32_t> last_ended_{0};  // registration, by UnregisterAndWakeAll
  std::atomic<uint32_t> in_flight_{0};
  std::atomic<int> failed_with_{0};
  std::atomic<bool> leaked_{false};
  std::mutex release_;  // one release at a time; taken first, before any other lock
  bool released_ = false;

  // Watchdog thread only.
  uint64_t seen_progress_ = 0;
  int stuck_ticks_ = 0;
};

struct Session::Opened {
  std::shared_ptr<Session> session;  // null: see `failure`
  std::vector<Attempt> attempts;
  uint64_t missing_features = 0;
  Failure failure;
};

}  // namespace uffd

#endif  // UFFD_CORE_SESSION_H_
