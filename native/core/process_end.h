// Notices that the process is ending whatever JavaScript does: exit listeners can be removed, one
// before ours can throw, the main thread may never have loaded the addon, and a Worker is told
// nothing while the main thread waits for another one.
//
// What no way of ending can do without: the main thread joins the threads that Node.js started, its
// Workers and then the pool's. At other times it joins one that has little left to do: a Worker
// that ends (native code in it may still tidy up), the inspector's when that is closed (a client
// may be slow to answer).
#ifndef UFFD_CORE_PROCESS_END_H_
#define UFFD_CORE_PROCESS_END_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "core/result.h"

namespace uffd {

class ProcessEnd {
 public:
  // Opens what HasBegun() reads; after setuid(2) that may be too late.
  static Result<int> Descriptor() noexcept;

  // On a thread that pthread_create(3) started with this routine: where libc keeps the routine of a
  // thread is learnt from it.
  explicit ProcessEnd(void* (*routine)(void*)) noexcept;

  // The watchdog's question, asked at every tick. Once it is true the process cannot go on.
  bool HasBegun() noexcept;

 private:
  struct Join {
    pid_t thread = 0;
    uint64_t thread_id_at = 0;
  };
  // What the main thread is doing in pthread_join(3).
  static std::optional<Join> JoinOfMainThread() noexcept;
  bool IsOfNode(const Join& join) const noexcept;

  // From where libc keeps the id of a thread to where it keeps its routine.
  std::optional<int64_t> routine_offset_;
  pid_t joined_ = 0;
  int looks_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_PROCESS_END_H_
