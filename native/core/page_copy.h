// Copying pages to where nobody reads them soon. Past the processor's caches, no line of the copy
// is fetched only to be overwritten; through them, the stores are quicker. Which of the two takes
// less time is a matter of the machine and of who else uses its memory, so each is tried now and
// then.
#ifndef UFFD_CORE_PAGE_COPY_H_
#define UFFD_CORE_PAGE_COPY_H_

#include <cstddef>
#include <cstdint>

namespace uffd {

// Whole pages in a row.
struct PageCopy {
  uint8_t* to;
  const uint8_t* from;
  uint64_t bytes;
};

void CopyPages(const PageCopy* runs, size_t count) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_PAGE_COPY_H_
