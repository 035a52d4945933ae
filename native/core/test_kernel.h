// Test build only: what the kernel's own tests of userfaultfd do to memory and the package offers
// to nobody.
#ifndef UFFD_CORE_TEST_KERNEL_H_
#define UFFD_CORE_TEST_KERNEL_H_

#ifdef UFFD_TEST_BARRIERS

#include <cstdint>
#include <string>

#include "core/range.h"
#include "core/result.h"

namespace uffd::testing {

struct Child {
  int pid;
  int report;  // the reading end of its pipe
};

// Forks this process as it is. The child tells through the pipe, a byte for each page and each time
// for all of them: whether it carries write protection; its first byte; that byte again after it
// was written `value`. Then it ends. `pin_file`: not empty, and the child first has the kernel read
// its pages from where they are (O_DIRECT), which gives it pages of its own (unsharing).
Result<Child> ForkChild(Range memory, uint64_t page_size, uint8_t value,
                        const std::string& pin_file) noexcept;
// Waits for its end: the wait status, or -1.
int ReapChild(int pid) noexcept;

// Gives forked children this memory (MADV_DOFORK).
Status InheritOnFork(Range memory) noexcept;

// Moves the memory to other addresses and back (mremap(2)).
Status Remap(Range memory, uint64_t page_size) noexcept;

// Pins the pages for writing until the descriptor is closed (io_uring, fixed buffers).
Result<int> PinPages(Range memory) noexcept;

// What a snapshot cannot do without: collects what was written to the tracked memory and copies
// those pages to the same offsets of `to`. Returns their bytes.
Result<uint64_t> CollectAndCopy(Range memory, Range to) noexcept;

// Asks for huge pages now (MADV_COLLAPSE, Linux 6.1).
Status Collapse(Range memory) noexcept;
// The bytes that huge pages map.
Result<uint64_t> HugeBytes(Range memory) noexcept;

}  // namespace uffd::testing

#endif  // UFFD_TEST_BARRIERS

#endif  // UFFD_CORE_TEST_KERNEL_H_
