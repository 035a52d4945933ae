// Write-protecting much memory, by two threads where another processor is idle.
#ifndef UFFD_CORE_PARALLEL_ARMING_H_
#define UFFD_CORE_PARALLEL_ARMING_H_

#include <cstdint>
#include <functional>

#include "core/range.h"
#include "core/result.h"

namespace uffd {

// Whether so much memory may take long enough, and another processor is idle now: to be asked
// before threads are started that have none yet.
bool IsArmedInParallel(uint64_t bytes) noexcept;

// Calls arm(part) for parts that make up `pages`, whole pages of `page_size`, until all are done or
// one failed; from two threads at once where it takes long enough.
Status ArmInParallel(Range pages, uint64_t page_size, std::function<Status(Range)> arm) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_PARALLEL_ARMING_H_
