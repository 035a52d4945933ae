// Test build only: makes this process a place where userfaultfd is refused, as container runtimes
// do.
#ifndef UFFD_CORE_TEST_SECCOMP_H_
#define UFFD_CORE_TEST_SECCOMP_H_

#ifdef UFFD_TEST_BARRIERS

#include <string>

namespace uffd::testing {

// From now on userfaultfd(2) and USERFAULTFD_IOC_NEW fail with `error` in every thread of the
// process, and in its children. Returns 0 or an errno. seccomp(2).
int RefuseUserfaultfd(int error) noexcept;
// The same for one ioctl, by its name: UFFDIO_COPY, PAGEMAP_SCAN (which a kernel before Linux 6.7
// fails with ENOTTY). ENOENT: there is none of that name.
int RefuseIoctl(const std::string& name, int error) noexcept;
// And for MADV_POPULATE_READ: before Linux 5.14, EINVAL.
int RefusePopulateRead(int error) noexcept;

}  // namespace uffd::testing

#endif  // UFFD_TEST_BARRIERS

#endif  // UFFD_CORE_TEST_SECCOMP_H_
