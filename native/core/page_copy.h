// Copying pages to where nobody reads them soon: past the processor's caches, which would fetch
// each line of the copy only to have it overwritten.
#ifndef UFFD_CORE_PAGE_COPY_H_
#define UFFD_CORE_PAGE_COPY_H_

#include <cstdint>

namespace uffd {

// Whole pages.
void CopyPastCaches(uint8_t* to, const uint8_t* from, uint64_t length) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_PAGE_COPY_H_
