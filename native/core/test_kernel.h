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
  int orders;  // the writing end of a pipe
  int report;  // the reading end of another
};

// Forks this process as it is. The child does what it reads from `orders`, a byte each, and tells a
// byte for each page after each:
//   a  whether it carries write protection
//   r  its first byte
//   w  that byte, after it wrote `value` there
//   d  that byte, after it gave all pages back (MADV_DONTNEED)
//   f  that byte, after a child of its own wrote `value` to all pages and ended
//   e  nothing more: it calls exec and sleeps until it is killed
//   x  nothing more: it ends
// `pin_file`: not empty, and the child first has the kernel read its pages
// from where they are (O_DIRECT), which gives it pages of its own (unsharing).
Result<Child> ForkChild(Range memory, uint64_t page_size, uint8_t value,
                        const std::string& pin_file) noexcept;
// Waits for its end: the wait status, or -1.
int ReapChild(int pid) noexcept;

// The errno of a second UFFDIO_API on one descriptor; 0 when it works.
int SecondHandshake() noexcept;

// Puts new memory in its place: mmap(2) with MAP_FIXED, which unmaps what was there.
Status MapAnew(Range memory) noexcept;
// Leaves nothing at these addresses.
Status Unmap(Range pages) noexcept;
Status MapTwice(Range memory) noexcept;

// The same with a file, shared and for reading only.
Status MapFile(Range memory, const std::string& path) noexcept;

// Maps until the kernel allows this process no more mappings (vm.max_map_count): from then on none
// can be split. GiveMappings() unmaps so many of them again.
Status TakeMappings() noexcept;
void GiveMappings(uint64_t count) noexcept;

// Two connected unix sockets of datagrams.
struct Pair {
  int fds[2];
};
Result<Pair> DatagramPair() noexcept;

// Gives forked children this memory (MADV_DOFORK).
Status InheritOnFork(Range memory) noexcept;

// Moves the memory to other addresses and back (mremap(2)).
Status Remap(Range memory, uint64_t page_size) noexcept;

// Gives pages back as a library of the program might, behind this package's back: madvise(2).
Status GiveBack(Range memory, int advice) noexcept;

// A SIGBUS handler as a crash reporter installs it: counts, and maps zeros over the page.
void CountSigbus() noexcept;
uint32_t SigbusCount() noexcept;
// Blocks SIGBUS in the calling thread.
void BlockSigbus() noexcept;

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
