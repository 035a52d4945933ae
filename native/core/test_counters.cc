#include "core/test_counters.h"

#ifdef UFFD_TEST_BARRIERS

#include <poll.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>

namespace {

using Counter = std::atomic<uint64_t>;

Counter ioctls;
Counter mmaps;
Counter munmaps;
Counter madvises;
Counter polls;
Counter reads;
Counter writes;
Counter preads;
Counter allocations;

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): the linker's names
extern "C" {

int __real_ioctl(int fd, unsigned long request, void* argument);
int __wrap_ioctl(int fd, unsigned long request, void* argument) {
  ioctls++;
  return __real_ioctl(fd, request, argument);
}

void* __real_mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset);
void* __wrap_mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  mmaps++;
  return __real_mmap(address, bytes, protection, flags, fd, offset);
}

#ifdef __GLIBC__  // what mmap is called where file offsets have 64 bits
void* __real_mmap64(void* address, size_t bytes, int protection, int flags, int fd, off64_t offset);
void* __wrap_mmap64(void* address, size_t bytes, int protection, int flags, int fd,
                    off64_t offset) {
  mmaps++;
  return __real_mmap64(address, bytes, protection, flags, fd, offset);
}

ssize_t __real_pread64(int fd, void* buffer, size_t bytes, off64_t offset);
ssize_t __wrap_pread64(int fd, void* buffer, size_t bytes, off64_t offset) {
  preads++;
  return __real_pread64(fd, buffer, bytes, offset);
}
#endif

int __real_munmap(void* address, size_t bytes);
int __wrap_munmap(void* address, size_t bytes) {
  munmaps++;
  return __real_munmap(address, bytes);
}

int __real_madvise(void* address, size_t bytes, int advice);
int __wrap_madvise(void* address, size_t bytes, int advice) {
  madvises++;
  return __real_madvise(address, bytes, advice);
}

int __real_poll(pollfd* sources, nfds_t count, int timeout);
int __wrap_poll(pollfd* sources, nfds_t count, int timeout) {
  polls++;
  return __real_poll(sources, count, timeout);
}

ssize_t __real_read(int fd, void* buffer, size_t bytes);
ssize_t __wrap_read(int fd, void* buffer, size_t bytes) {
  reads++;
  return __real_read(fd, buffer, bytes);
}

ssize_t __real_write(int fd, const void* buffer, size_t bytes);
ssize_t __wrap_write(int fd, const void* buffer, size_t bytes) {
  writes++;
  return __real_write(fd, buffer, bytes);
}

ssize_t __real_pread(int fd, void* buffer, size_t bytes, off_t offset);
ssize_t __wrap_pread(int fd, void* buffer, size_t bytes, off_t offset) {
  preads++;
  return __real_pread(fd, buffer, bytes, offset);
}

// operator new(size_t), as the Itanium ABI names it.
void* __real__Znwm(size_t bytes);
void* __wrap__Znwm(size_t bytes) {
  allocations++;
  return __real__Znwm(bytes);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace uffd::testing {

std::array<Count, 9> Counts() noexcept {
  return {{{"ioctl", ioctls},
           {"mmap", mmaps},
           {"munmap", munmaps},
           {"madvise", madvises},
           {"poll", polls},
           {"read", reads},
           {"write", writes},
           {"pread", preads},
           {"allocations", allocations}}};
}

}  // namespace uffd::testing

#endif  // UFFD_TEST_BARRIERS
