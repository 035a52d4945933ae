#ifndef UFFD_CORE_PAGE_KEEPER_H_
#define UFFD_CORE_PAGE_KEEPER_H_

#include "core/range.h"
#include "core/result.h"

namespace uffd {

// Has pages registered that are tracked by somebody else's marks (wp-async), since it needs faults
// of them for itself: memory has one userfaultfd at a time, and registering it anew wipes the
// marks.
class PageKeeper {
 public:
  virtual ~PageKeeper() = default;
  // Fails when it has them no more.
  virtual Status Arm(Range pages) noexcept = 0;
  // Nobody tracks them any more.
  virtual void Disarm(Range pages) noexcept = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_PAGE_KEEPER_H_
