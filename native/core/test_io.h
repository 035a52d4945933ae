// Test build only: ways in which the kernel and other processes write to memory, and scans of it,
// that JavaScript cannot ask for.
#ifndef UFFD_CORE_TEST_IO_H_
#define UFFD_CORE_TEST_IO_H_

#ifdef UFFD_TEST_BARRIERS

#include <cstddef>
#include <cstdint>

#include "core/range.h"
#include "core/result.h"

namespace uffd::testing {

// Pins the pages for writing until the descriptor is closed (io_uring, fixed buffers).
Result<int> PinPages(Range memory) noexcept;
// One read of a file through io_uring; returns the bytes. `ring`: what PinPages returned, and the
// memory lies in what it pinned; negative: a ring of its own that has pinned nothing.
Result<uint64_t> ReadByRing(int ring, int file, uint64_t file_offset, Range memory) noexcept;
// Fills the memory with `value` as a debugger would: process_vm_writev(2).
Status WriteFromOutside(Range memory, uint8_t value) noexcept;
// mprotect(2), with the permissions of `prot`.
Status Protect(Range memory, int prot) noexcept;
// Starts a program by posix_spawn(3) and waits for its end: the wait status.
Result<int> Spawn(const char* program) noexcept;
// Has a thread of native code read a byte, and waits for its end.
Result<uint8_t> ReadInThread(Range memory) noexcept;
// One PAGEMAP_SCAN with room for `room` regions: adds the pages that it returned and re-armed.
Status ScanOnce(Range memory, size_t room, RangeSet* written) noexcept;
// Registers every other page, each by itself, until the kernel refuses one (`error`, else 0), and
// closes the userfaultfd again.
struct Registered {
  size_t count;
  int error;
};
Result<Registered> RegisterEveryOther(Range memory) noexcept;

// Registers the memory for asynchronous tracking and arms none of it, for the rest of the process.
Status RegisterUnarmed(Range memory) noexcept;

}  // namespace uffd::testing

#endif  // UFFD_TEST_BARRIERS

#endif  // UFFD_CORE_TEST_IO_H_
