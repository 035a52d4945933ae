#ifndef UFFD_CORE_WRITE_OBSERVER_H_
#define UFFD_CORE_WRITE_OBSERVER_H_

#include <chrono>

#include "core/range.h"

namespace uffd {

// Who must know of the first write to an armed page before it happens. Called by whoever resolves
// the faults of a registration: its methods allocate nothing and wait for no lock that a faulting
// thread may hold.
class WriteObserver {
 public:
  enum class Verdict {
    kGo,    // the page may be unprotected
    kWait,  // not yet; ask again
  };
  virtual ~WriteObserver() = default;
  virtual Verdict BeforeWrite(Range page) noexcept = 0;
  // The page was unprotected: its writer waited this long.
  virtual void AfterWrite(std::chrono::nanoseconds waited) noexcept = 0;
  // Pages changed that nobody wrote: they were given back to the kernel, unmapped or moved.
  virtual void Lost(Range range) noexcept = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_WRITE_OBSERVER_H_
