// The userfaultfds of forked children. With EVENT_FORK the kernel registers a child's copy of the
// memory with a userfaultfd of its own and gives that to the parent, as the event is read.
//
//   read -> open -> taken -> closed      JavaScript took the event's object, and closes it
//   read -> open -> closed               its event was never read, or the consumer left
//   read -> closed                       nobody reads events, or there is no room or descriptor
//
// Whoever holds one must serve it, or the child sleeps for ever in its next fault, madvise, mremap
// or fork. So the fault loop does, as long as it is open: it reads everything, ends faults as it
// would end the parent's without a handler, and closes what it cannot answer. A closed one has
// nothing registered any more: its child goes on with plain memory, like the child of a process
// that has no EVENT_FORK. JavaScript may work on the child's memory meanwhile (Call), and is not
// told of the faults.
//
// Such a descriptor gives no end-of-file. That its child ended (or called exec) shows in ESRCH from
// an ioctl, so the loop asks all of them now and then, and before it needs a place. None is ever
// waited for: not by the fork (at most kMost are kept, and none that takes the last descriptor),
// not by the loop (it allocates nothing here: the thread that forks may hold malloc's locks).
//
// Memory that the child moves (mremap) is no longer known: its next fault there closes the object.
// Where the parent has ended a registration since the fork, a child's missing page has lost its
// source and is poisoned.
#ifndef UFFD_CORE_FORKED_CHILDREN_H_
#define UFFD_CORE_FORKED_CHILDREN_H_

#include <poll.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "core/child_descriptor.h"
#include "core/child_ranges.h"
#include "core/fault.h"
#include "core/few_ranges.h"
#include "core/mapping.h"
#include "core/page_source.h"
#include "core/range.h"
#include "core/registration_table.h"
#include "core/result.h"
#include "core/userfaultfd.h"

namespace uffd {

// The order is known to lib/child-userfaultfd.ts.
enum class ChildCall : uint8_t {
  kWriteProtect,
  kWake,
  kCopy,
  kZeropage,
  kContinue,
  kPoison,
  kUnregister,
};

class ForkedChildren {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kMost = 64;

  ForkedChildren(const RegistrationTable* table, SourceBuffer* buffer) noexcept
      : table_(table), buffer_(buffer) {}
  ForkedChildren(const ForkedChildren&) = delete;
  ForkedChildren& operator=(const ForkedChildren&) = delete;

  // Before the first fork event.
  Status Prepare() noexcept;

  // Loop thread.

  // 0: there is no place, and it is still the caller's.
  uint64_t Add(ChildDescriptor* child) noexcept;
  // Before this is noted of a registration with a source: the children still have their pages.
  void ParentGivesBack(const Registration& registration, Range part) noexcept;
  // Closes the one that is open longest, for its descriptor. False: there is none.
  bool CloseOldest() noexcept;
  // What to wait for: at most kMost of each; their number.
  size_t WaitFor(pollfd* sources, uint64_t* ids) noexcept;
  // Reads and answers.
  void Serve(uint64_t id) noexcept;
  // Closes those whose child has ended, when it is time to look.
  void LookAfter() noexcept;
  std::optional<Clock::time_point> NextLook() noexcept;

  // Any thread.

  void Close(uint64_t id) noexcept;
  // Of those nobody took.
  void CloseUntaken() noexcept;
  // For good: nothing is added any more.
  void CloseAll() noexcept;
  // JavaScript has it now. False: it is closed.
  bool Take(uint64_t id) noexcept;
  bool IsOpen(uint64_t id) noexcept;
  // kClosedErrno when it is closed, or found to be at its end. `bytes` are those of `range`.
  Partial Call(uint64_t id, ChildCall call, Range range, const void* bytes, uint64_t mode) noexcept;
  // Something waits to be read: the watchdog's question.
  bool HaveWaiting() noexcept;

 private:
  struct Child {
    uint64_t id = 0;  // 0: a free place
    Userfaultfd uffd;
    ChildRanges registered;
    uint32_t users = 0;
    bool closing = false;  // the last user closes it; its child is free by then
    bool taken = false;
    // Loop thread only: what the child gave back to the kernel, and what the parent did after the
    // fork.
    FewRanges given_back;
    FewRanges parents;
  };
  class Use;

  // What can be found under this id, with the lock held; null when it is closed.
  Child* Find(uint64_t id) noexcept;
  // Frees the place, with the lock held. The result is for closing without it.
  Userfaultfd Remove(Child* child) noexcept;
  // One user less.
  void LetGo(Child* child) noexcept;
  template <typename Matches>
  void CloseWhere(Matches matches) noexcept;
  Child* FreePlace() noexcept;
  void CloseEnded() noexcept;
  bool HasEnded(Child* child) const noexcept;
  static void CloseGrandchild(const Child& child, FileDescriptor fd) noexcept;
  bool Answer(Child* child, const Event& fault) noexcept;
  Result<const uint8_t*> Load(const Child& child, Range page,
                              const Registration& registration) noexcept;

  const RegistrationTable* const table_;
  SourceBuffer* const buffer_;

  std::mutex mutex_;  // held for a look at the places; for no call that waits
  std::unique_ptr<std::array<Child, kMost>> children_;
  std::shared_ptr<Mapping> ranges_;  // of all places; what is not used of it costs nothing
  uint64_t next_id_ = 1;
  size_t open_ = 0;
  bool ending_ = false;
  // A page that no child has.
  std::shared_ptr<Mapping> nowhere_;
  Clock::time_point next_look_;  // loop thread only
};

}  // namespace uffd

#endif  // UFFD_CORE_FORKED_CHILDREN_H_
