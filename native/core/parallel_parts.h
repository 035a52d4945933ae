// What the kernel does to much memory in one call, in several, by two threads where another
// processor is idle.
#ifndef UFFD_CORE_PARALLEL_PARTS_H_
#define UFFD_CORE_PARALLEL_PARTS_H_

#include <cstdint>
#include <functional>

#include "core/range.h"
#include "core/result.h"

namespace uffd {

// Calls `call` for parts that make up `pages`, whole pages of `page_size`, until all are done or
// one failed; from two threads at once where that takes long enough and another processor is idle.
// `was_idle`: one was a moment ago. Threads that were started since count as running until they
// first sleep.
Status CallInParallel(Range pages, uint64_t page_size, bool was_idle,
                      std::function<Status(Range)> call) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_PARALLEL_PARTS_H_
