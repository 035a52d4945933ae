// Has faults answered on the very thread that faulted (UFFD_FEATURE_SIGBUS): the kernel queues no
// event and sends SIGBUS, and the handler has the fault served and returns. Needs no privilege and
// no other thread. A system call that faults itself fails with EFAULT.
//
// The handler allocates nothing and takes no lock that a faulting thread may hold. What is not ours
// goes to the handler that was there before (test 65, C4).
#ifndef UFFD_CORE_SIGBUS_RESOLVER_H_
#define UFFD_CORE_SIGBUS_RESOLVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/in_thread_server.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

// The faults of one range, from construction to destruction.
class SigbusResolver {
 public:
  // Installs the handler where it is not installed. EMFILE: too many ranges at a time.
  static Result<std::unique_ptr<SigbusResolver>> Start(Range pages, uint64_t page_size,
                                                       InThreadServer* server) noexcept;
  SigbusResolver(const SigbusResolver&) = delete;
  SigbusResolver& operator=(const SigbusResolver&) = delete;
  // The range must not fault any more. Waits for the handlers that are at it.
  ~SigbusResolver();

  // Puts our handler back where somebody put another in its place, which is called for what is not
  // ours from then on. Without that a write would fault for ever. True: it was so.
  static bool Reinstall() noexcept;
  // The same once it was installed: a Worker may use it in a process whose main thread does not,
  // and listeners come and go there.
  static void KeepInstalled() noexcept;

 private:
  explicit SigbusResolver(size_t slot) noexcept : slot_(slot) {}
  const size_t slot_;
};

}  // namespace uffd

#endif  // UFFD_CORE_SIGBUS_RESOLVER_H_
