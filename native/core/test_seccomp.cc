#include "core/test_seccomp.h"

#ifdef UFFD_TEST_BARRIERS

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <iterator>

#include "core/kernel_abi.h"

namespace uffd::testing {

namespace {

constexpr auto kNumber = static_cast<uint32_t>(offsetof(seccomp_data, nr));
constexpr uint32_t Argument(uint32_t index) {
  return static_cast<uint32_t>(offsetof(seccomp_data, args)) + index * sizeof(uint64_t);
}
constexpr uint32_t kRequest = Argument(1);  // of ioctl(2)
constexpr uint32_t kAdvice = Argument(2);   // of madvise(2)

struct NamedIoctl {
  const char* name;
  uint32_t request;
};
constexpr NamedIoctl kIoctls[] = {
    {"UFFDIO_API", static_cast<uint32_t>(UFFDIO_API)},
    {"UFFDIO_REGISTER", static_cast<uint32_t>(UFFDIO_REGISTER)},
    {"UFFDIO_UNREGISTER", static_cast<uint32_t>(UFFDIO_UNREGISTER)},
    {"UFFDIO_WAKE", static_cast<uint32_t>(UFFDIO_WAKE)},
    {"UFFDIO_COPY", static_cast<uint32_t>(UFFDIO_COPY)},
    {"UFFDIO_ZEROPAGE", static_cast<uint32_t>(UFFDIO_ZEROPAGE)},
    {"UFFDIO_MOVE", static_cast<uint32_t>(UFFDIO_MOVE)},
    {"UFFDIO_WRITEPROTECT", static_cast<uint32_t>(UFFDIO_WRITEPROTECT)},
    {"UFFDIO_CONTINUE", static_cast<uint32_t>(UFFDIO_CONTINUE)},
    {"UFFDIO_POISON", static_cast<uint32_t>(UFFDIO_POISON)},
    {"PAGEMAP_SCAN", static_cast<uint32_t>(PAGEMAP_SCAN)},
};

int Install(sock_filter* rules, size_t count) noexcept {
  sock_fprog program{static_cast<unsigned short>(count), rules};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) {
    return errno;
  }
  return 0;
}

// One system call with one value of one argument.
int Refuse(uint32_t call, uint32_t argument, uint32_t value, int error) noexcept {
  sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return Install(rules, std::size(rules));
}

}  // namespace

int RefuseIoctl(const std::string& name, int error) noexcept {
  for (const auto& [each, request] : kIoctls) {
    if (name == each) return Refuse(SYS_ioctl, kRequest, request, error);
  }
  return ENOENT;
}

int RefusePopulateRead(int error) noexcept {
  return Refuse(SYS_madvise, kAdvice, MADV_POPULATE_READ, error);
}

int RefuseUserfaultfd(int error) noexcept {
  sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kRequest),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, USERFAULTFD_IOC_NEW, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return Install(rules, std::size(rules));
}

}  // namespace uffd::testing

#endif  // UFFD_TEST_BARRIERS
