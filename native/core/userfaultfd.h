// One userfaultfd descriptor: opening it, the handshake, and one method per ioctl. Nothing here
// waits, locks or remembers. man 2 userfaultfd, man 2 ioctl_userfaultfd.
#ifndef UFFD_CORE_USERFAULTFD_H_
#define UFFD_CORE_USERFAULTFD_H_

#include <cstdint>
#include <vector>

#include "core/file_descriptor.h"
#include "core/kernel_abi.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

enum class Access { kDevice, kSystemCall, kUserModeOnly };
enum class UserMode { kAuto, kOnly, kNever };

struct Attempt {
  Access access;
  int error;  // 0: this way worked
};

struct OpenRequest {
  uint64_t required_features = 0;
  uint64_t optional_features = 0;
  UserMode user_mode = UserMode::kAuto;
};

// What the kernel did before it stopped: `error` is 0 when all of it was done.
struct Partial {
  int64_t bytes = 0;
  int error = 0;
};

class Userfaultfd {
 public:
  struct Opened;

  Userfaultfd() = default;

  // Tries the device, the system call, then user-mode-only, as far as `request` allows.
  static Opened Open(const OpenRequest& request) noexcept;
  // One way only, without a handshake; the caller owns the descriptor.
  static FileDescriptor OpenBy(Access access, int* error) noexcept;
  static Result<uffdio_api> Handshake(int fd, uint64_t features) noexcept;
  // One that the kernel made: a forked child's.
  static Userfaultfd Adopt(FileDescriptor fd) noexcept;

  Result<uint64_t> Register(Range range, uint64_t mode) noexcept;  // the ioctls it allows
  Status Unregister(Range range) noexcept;
  Status Wake(Range range) noexcept;
  Status WriteProtect(Range range, uint64_t mode) noexcept;
  Partial Copy(Range destination, const void* source, uint64_t mode) noexcept;
  Partial Zeropage(Range range, uint64_t mode) noexcept;
  Partial Continue(Range range, uint64_t mode) noexcept;
  Partial Poison(Range range, uint64_t mode) noexcept;
  Partial Move(Range destination, uint64_t source, uint64_t mode) noexcept;
  // Reads up to `capacity` messages: their number, or 0 when there is none now.
  Result<size_t> Read(uffd_msg* messages, size_t capacity) noexcept;

  int Fd() const noexcept { return fd_.Get(); }
  bool IsOpen() const noexcept { return static_cast<bool>(fd_); }
  uint64_t Features() const noexcept { return features_; }
  Access OpenedBy() const noexcept { return access_; }
  void Close() noexcept { fd_.Reset(); }

 private:
  // The features that the kernel has, asked for once per process: UFFDIO_API works once per
  // descriptor, and closing a descriptor walks all mappings.
  static Result<uint64_t> Offered(Access access) noexcept;

  FileDescriptor fd_;
  uint64_t features_ = 0;
  Access access_ = Access::kDevice;
};

struct Userfaultfd::Opened {
  Userfaultfd uffd;
  std::vector<Attempt> attempts;
  uint64_t missing_features = 0;  // required ones that the kernel lacks
  Failure failure;                // error 0: `uffd` is open
};

}  // namespace uffd

#endif  // UFFD_CORE_USERFAULTFD_H_
