// Every session of the process, whichever environment (main thread, Worker) opened it, and the
// watchdog over them.
//
// Lock order: Session::release_, then Registry::mutex_, then WakeLog's, then RegistrationTable's
// two. The fault loop takes only the last three, and the notifier's.
#ifndef UFFD_CORE_REGISTRY_H_
#define UFFD_CORE_REGISTRY_H_

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "core/range.h"
#include "core/result.h"

namespace uffd {

class Session;

class Registry {
 public:
  static Registry& Get() noexcept;  // never destroyed: threads outlive static destructors

  // Starts the watchdog with the first session. Fails with kEndingErrno after ReleaseAll().
  Status Add(const std::shared_ptr<Session>& session) noexcept;
  void Remove(Session* session) noexcept;
  // Whether a thread that reads this memory may have to wait for some userfaultfd.
  bool MayFault(Range range) noexcept;
  // Fills pages that are registered with zeros and takes them out of the set, until one fails.
  Status ZeroRegistered(RangeSet* pages) noexcept;
  // Whether a page of this memory that does not exist is zeros: nobody serves its faults.
  bool HolesAreZeros(Range range) noexcept;
  // Whether some registration fills its pages from this memory.
  bool IsSource(Range range) noexcept;
  // Whether any of them fills missing pages of it from a source.
  bool HasSource(Range range) noexcept;
  // For the end of the process: after this nobody sleeps in a fault of any session, but of those
  // that go on serving theirs, and there will be no other (test 40, A3).
  void ReleaseAll() noexcept;
  // Whether that has begun.
  bool ProcessEnds() const noexcept { return process_ends_.load(); }

 private:
  Registry() = default;
  bool SomebodyWaits() noexcept;
  static void* WatchdogMain(void* self) noexcept;
  void Watch() noexcept;
  std::vector<std::shared_ptr<Session>> Live() noexcept;

  std::mutex mutex_;
  std::condition_variable changed_;
  // The plain pointer tells entries apart; a session is only ever used through the weak one.
  struct Entry {
    Session* key;
    std::weak_ptr<Session> session;
  };
  std::vector<Entry> sessions_;
  bool watching_ = false;
  std::atomic<bool> process_ends_{false};
};

}  // namespace uffd

#endif  // UFFD_CORE_REGISTRY_H_
