// What the kernel has mapped where: /proc/self/maps.
#ifndef UFFD_CORE_MEMORY_MAP_H_
#define UFFD_CORE_MEMORY_MAP_H_

#include "core/range.h"

namespace uffd {

// Whether all of `range` is private memory without a file: then this process's page tables alone
// say what it holds. False when that cannot be found out.
bool IsPrivateAnonymous(Range range) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_MEMORY_MAP_H_
