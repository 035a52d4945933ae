// The kernel refuses a range for the sake of one mapping in it that is not this userfaultfd's any
// more (a file was mapped there, or somebody else's memory), and leaves the rest as it is. These go
// on with the rest.
#ifndef UFFD_CORE_EACH_MAPPING_H_
#define UFFD_CORE_EACH_MAPPING_H_

#include "core/range.h"
#include "core/result.h"
#include "core/userfaultfd.h"

namespace uffd {

// EINVAL: a part was not ours. Any other error: a part may still be registered.
Status UnregisterEach(Userfaultfd* uffd, Range range) noexcept;
void WriteProtectEach(Userfaultfd* uffd, Range range, uint64_t mode) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_EACH_MAPPING_H_
