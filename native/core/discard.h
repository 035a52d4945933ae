#ifndef UFFD_CORE_DISCARD_H_
#define UFFD_CORE_DISCARD_H_

#include "core/mapping.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

// Gives whole pages back to the kernel, poisoned ones too; every tracker of them reports them.
// `mapping`: of memory of our own, else null.
Status DiscardTracked(const Mapping* mapping, Range pages) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_DISCARD_H_
