// The thread that ends page faults. One per open userfaultfd, never a pool thread. It takes no
// JavaScript, allocates nothing and touches no memory that may fault; it resolves, then records.
#ifndef UFFD_CORE_FAULT_LOOP_H_
#define UFFD_CORE_FAULT_LOOP_H_

#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "core/fault.h"
#include "core/fault_queue.h"
#include "core/file_descriptor.h"
#include "core/registration_table.h"
#include "core/result.h"
#include "core/userfaultfd.h"
#include "core/wake_log.h"

namespace uffd {

// Every fault that was read ends in exactly one of these.
enum class Outcome : uint8_t {
  kResolved,        // this loop ended it
  kAlreadyPresent,  // somebody else did; the thread was woken
  kDeferred,        // the mapping is changing: read its event first, then try again
  kDiscarded,       // its thread was woken by others since, or the range unregistered
  kFailed,          // the descriptor is unusable
};

// Called by the loop when the reader has something to look at. Must not block or allocate.
class Notifier {
 public:
  virtual ~Notifier() = default;
  virtual void Poke() noexcept = 0;
};

class FaultLoop {
 public:
  FaultLoop(Userfaultfd* uffd, const RegistrationTable* table, WakeLog* wake_log, FaultQueue* queue,
            Notifier* notifier) noexcept
      : uffd_(uffd), table_(table), wake_log_(wake_log), queue_(queue), notifier_(notifier) {}
  FaultLoop(const FaultLoop&) = delete;
  FaultLoop& operator=(const FaultLoop&) = delete;

  Status Start() noexcept;
  // Asks the thread to end, waits for it (at most one second) and joins it. False: it did not end,
  // and whatever it uses must be left alone.
  bool Stop() noexcept;

  // Waits until the loop has read and served once more, at most until `deadline`: false when that
  // is over. For calls that the kernel refuses while an event waits to be read.
  bool AwaitReading(std::chrono::steady_clock::time_point deadline) noexcept;
  // Faults wait in the descriptor or in the loop although the loop made no progress since `seen`
  // (updated). The watchdog's question.
  bool IsStuck(uint64_t* seen) const noexcept;
  // The errno that ended the loop, 0 while it is well.
  int FatalError() const noexcept { return fatal_error_.load(); }

 private:
  static constexpr size_t kBatch = 256;

  static void* ThreadMain(void* self) noexcept;
  void Run() noexcept;
  // Reads until the kernel has nothing more (or the batch is full): page faults come before events
  // that were queued earlier, so events are applied first and faults served after.
  bool ReadBatch() noexcept;
  Result<size_t> ReadMessages(uffd_msg* messages) noexcept;
  void HandBackDeferred() noexcept;
  void TellProgress() noexcept;
  void ServeBatch() noexcept;
  void Observe(Event event) noexcept;
  Outcome Serve(const Event& fault) noexcept;
  Outcome ResolveMissing(Range page, const RegistrationView& registration) noexcept;
  Outcome OutcomeOf(int error, Range page) noexcept;
  bool SeenInBatch(size_t index) const noexcept;
  void Fail(int error) noexcept;

  Userfaultfd* const uffd_;
  const RegistrationTable* const table_;
  WakeLog* const wake_log_;
  FaultQueue* const queue_;
  Notifier* const notifier_;

  FileDescriptor stop_event_;
  pthread_t thread_{};
  bool started_ = false;
  std::atomic<bool> stopping_{false};
  std::atomic<int> fatal_error_{0};
  std::atomic<uint64_t> progress_{0};
  std::atomic<uint32_t> open_faults_{0};

  std::mutex progress_mutex_;  // for those who wait for the loop; see AwaitReading, Stop
  std::condition_variable progressed_;
  bool ended_ = false;

  // Kept free for a fork event: reading it creates a descriptor, and the fork waits for the read.
  FileDescriptor spare_;

  // Loop thread only. Between two batches `faults_` holds the deferred ones.
  std::array<Event, kBatch> faults_{};
  size_t fault_count_ = 0;
  bool read_again_soon_ = false;
};

}  // namespace uffd

#endif  // UFFD_CORE_FAULT_LOOP_H_
