// Which pages hold anything but zeros: the others cost a snapshot file nothing.
#ifndef UFFD_CORE_NONZERO_PAGES_H_
#define UFFD_CORE_NONZERO_PAGES_H_

#include <cstdint>

#include "core/range.h"

namespace uffd {

// The pages of `page_size`, counted from the start of `bytes`, of which any byte is not zero; the
// last may be a part of one.
RangeSet NonZeroPages(Range bytes, uint64_t page_size) noexcept;

// The same of memory that begins with a page and reads as zero where it has none. Pages that do
// not exist are not read, which would make those of shared memory resident. `backing`: the size of
// the pages that back it.
RangeSet NonZeroPagesThatExist(Range memory, uint64_t backing) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_NONZERO_PAGES_H_
