// Test build only: makes this process a place where userfaultfd is refused, as container runtimes
// do.
#ifndef UFFD_CORE_TEST_SECCOMP_H_
#define UFFD_CORE_TEST_SECCOMP_H_

#ifdef UFFD_TEST_BARRIERS

namespace uffd::testing {

// From now on userfaultfd(2) and USERFAULTFD_IOC_NEW fail with `error` in every thread of the
// process, and in its children. Returns 0 or an errno. seccomp(2).
int RefuseUserfaultfd(int error) noexcept;
// The same for PAGEMAP_SCAN: a kernel before Linux 6.7 fails it with ENOTTY.
int RefusePagemapScan(int error) noexcept;
// And for MADV_POPULATE_READ: before Linux 5.14, EINVAL.
int RefusePopulateRead(int error) noexcept;

}  // namespace uffd::testing

#endif  // UFFD_TEST_BARRIERS

#endif  // UFFD_CORE_TEST_SECCOMP_H_
