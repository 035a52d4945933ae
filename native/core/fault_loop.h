// The thread that reads a userfaultfd and has its faults served (reading_loan.h: who else may read,
// for a moment). One per open userfaultfd, never a pool thread. It runs no JavaScript, allocates
// nothing on the way of a fault and touches no memory that may fault.
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
#include "core/fault_server.h"
#include "core/file_descriptor.h"
#include "core/loop_placement.h"
#include "core/reading_loan.h"
#include "core/registration_table.h"
#include "core/result.h"
#include "core/userfaultfd.h"

namespace uffd {

class FaultLoop {
 public:
  FaultLoop(Userfaultfd* uffd, const RegistrationTable* table, FaultServer* server) noexcept
      : uffd_(uffd), table_(table), server_(server) {}
  FaultLoop(const FaultLoop&) = delete;
  FaultLoop& operator=(const FaultLoop&) = delete;

  // `awake`: where it cannot sleep beside the thread whose fault it served, the loop looks for the
  // next one for a moment before it sleeps.
  Status Start(bool awake) noexcept;
  // Asks the thread to end, waits for it (at most one second; one that reads a source was waited
  // for before) and joins it. False: it did not end, and whatever it uses must be left alone.
  bool Stop() noexcept;

  // For those who are going to wait for it: from here on it runs wherever it may.
  void FollowNobody() noexcept { placement_.Dismiss(thread_); }
  // What is due may have changed: the loop looks again.
  void Poke() noexcept;
  // Waits until the loop has read and served once more, at most until `deadline`: false when that
  // is over. For calls that the kernel refuses while an event waits to be read.
  bool AwaitReading(std::chrono::steady_clock::time_point deadline) noexcept;
  // Waits until the loop has applied and served whatever it had read when this was called (or has
  // ended), at most until `deadline`: false when that is over.
  bool AwaitPass(std::chrono::steady_clock::time_point deadline) noexcept;
  // In the loop's place, by a thread that is awake anyway: hands over the page faults that wait.
  // Only where there are no other events, and no faults but those of handlers.
  void ReadAside() noexcept;
  // That thread reads no more.
  void LeaveAside() noexcept;
  // Whether a fault may have been read aside and not yet handed over.
  bool IsReadAside() const noexcept { return reading_aside_.load(); }
  // How often all that was read was served, and whether something of it must be tried again.
  uint64_t Passes() noexcept;
  bool HasDeferred() const noexcept { return deferred_.load(); }
  enum class Pulse {
    kWell,
    kUnknown,  // no progress, but it may be for want of a processor or a lock of the kernel's
    kStuck,    // faults wait in the descriptor or in the loop
  };
  // What became of it since `seen` (updated). The watchdog's question.
  Pulse TakePulse(uint64_t* seen) noexcept;

 private:
  static constexpr size_t kBatch = 256;

  static void* ThreadMain(void* self) noexcept;
  void Run() noexcept;
  // Reads until the kernel has nothing more (or the batch is full): page faults come before events
  // that were queued earlier, so events are applied first and faults served after.
  bool ReadBatch() noexcept;
  Result<size_t> ReadMessages(uffd_msg* messages) noexcept;
  bool SomebodyWaits() const noexcept;
  void HandBackDeferred() noexcept;
  void TellProgress() noexcept;
  void ServeBatch() noexcept;
  void Place(Event* fault) const noexcept;
  bool IsEndedWith(size_t index, const std::array<bool, kBatch>& open) const noexcept;
  int WaitMs(bool aside) noexcept;

  Userfaultfd* const uffd_;
  const RegistrationTable* const table_;
  FaultServer* const server_;

  // Between a poke and the close: the number may be another file's a moment later.
  std::mutex poke_mutex_;
  FileDescriptor poke_event_;
  pthread_t thread_{};
  std::atomic<pid_t> thread_id_{0};
  bool started_ = false;
  bool awake_ = false;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> progress_{0};
  uint64_t passes_ = 0;  // under progress_mutex_: how often all that was read was served
  std::atomic<uint32_t> open_faults_{0};
  std::atomic<bool> deferred_{false};
  ReadingLoan loan_;
  LoopPlacement placement_;
  std::atomic<bool> reading_aside_{false};

  std::mutex progress_mutex_;  // for those who wait for the loop; see AwaitReading, Stop
  std::condition_variable progressed_;
  bool ended_ = false;

  // Kept free for a fork event: reading it creates a descriptor, and the fork waits for the read.
  FileDescriptor spare_;

  std::chrono::nanoseconds seen_cpu_time_{0};  // watchdog only

  // Loop thread only. Between two batches `faults_` holds the deferred ones.
  std::array<Event, kBatch> faults_{};
  size_t fault_count_ = 0;
  bool read_again_soon_ = false;
  FaultServer::Clock::time_point awake_until_{};
};

}  // namespace uffd

#endif  // UFFD_CORE_FAULT_LOOP_H_
