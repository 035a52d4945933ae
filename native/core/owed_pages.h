#ifndef UFFD_CORE_OWED_PAGES_H_
#define UFFD_CORE_OWED_PAGES_H_

#include <functional>

#include "core/fault_server.h"
#include "core/userfaultfd.h"

namespace uffd {

// A loop that could not end its faults leaves them to whoever ends the registration: the missing
// pages that its source has bytes for, or that were to be poisoned, must not become zeros (test 33,
// B3). Poisons them as far as it comes until it is `over`, where the registration's fallback is
// that. `changing` is called while the kernel refuses because the mapping is changing.
void PoisonOwed(Userfaultfd* uffd, FaultServer* server, const Registration& registration,
                const std::function<bool()>& over, const std::function<void()>& changing) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_OWED_PAGES_H_
