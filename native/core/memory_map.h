// What the kernel has mapped where: /proc/self/maps.
#ifndef UFFD_CORE_MEMORY_MAP_H_
#define UFFD_CORE_MEMORY_MAP_H_

#include <cstdint>

#include "core/range.h"

namespace uffd {

// Where the bytes of a page are that this process has never touched.
enum class MemoryKind {
  kPrivateAnonymous,  // nowhere, it is zero: the page tables alone say what the memory holds
  kSharedMemory,      // with the memfd behind it, if that has the page; else it is zero
  kUnknown,           // on a disk, perhaps
};
// Of all of `range`; kUnknown when it is of several kinds.
MemoryKind KindOf(Range range) noexcept;
// Whether all of `range` shows this file (of fstat(2)). True when that cannot be found out.
bool ShowsFile(Range range, uint64_t device, uint64_t inode) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_MEMORY_MAP_H_
