#include "core/userfaultfd.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <span>
#include <utility>

#include "core/test_barrier.h"
#include "core/unpoison.h"

namespace uffd {
namespace {

constexpr int kOpenFlags = O_CLOEXEC | O_NONBLOCK;

const char* CallName(Access access) {
  return access == Access::kDevice ? "open(/dev/userfaultfd)" : "userfaultfd";
}

std::span<const Access> AccessOrder(UserMode mode) {
  static constexpr Access kOrder[] = {Access::kDevice, Access::kSystemCall, Access::kUserModeOnly};
  const std::span<const Access> all(kOrder);
  switch (mode) {
    case UserMode::kOnly:
      return all.subspan(2);
    case UserMode::kNever:
      return all.first(2);
    case UserMode::kAuto:
      break;
  }
  return all;
}

// The result field is signed: bytes done, or a negative errno when nothing was.
Partial PartialResult(int returned, int64_t field) {
  if (returned == 0) return {field, 0};
  const int error = errno;
  return {field > 0 ? field : 0, error};
}

}  // namespace

FileDescriptor Userfaultfd::OpenBy(Access access, int* error) noexcept {
  int fd = -1;
  if (access == Access::kDevice) {
    const FileDescriptor device(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
    if (device) fd = ioctl(device.Get(), USERFAULTFD_IOC_NEW, kOpenFlags);
  } else {
    const int user_mode = access == Access::kUserModeOnly ? UFFD_USER_MODE_ONLY : 0;
    fd = static_cast<int>(syscall(SYS_userfaultfd, kOpenFlags | user_mode));
  }
  *error = fd < 0 ? errno : 0;
  return FileDescriptor(fd);
}

Result<uffdio_api> Userfaultfd::Handshake(int fd, uint64_t features) noexcept {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = features;
  if (ioctl(fd, UFFDIO_API, &api) != 0) return Failure{errno, "ioctl(UFFDIO_API)"};
  return api;
}

Result<uint64_t> Userfaultfd::Offered(Access access) noexcept {
  static std::atomic<uint64_t> known{0};
  uint64_t features = known.load(std::memory_order_relaxed);
  if (features == 0) {
    int error = 0;
    const FileDescriptor asking = OpenBy(access, &error);
    if (error != 0) return Failure{error, CallName(access)};
    const Result<uffdio_api> api = Handshake(asking.Get(), 0);
    if (!api) return api.Error();
    features = api.Value().features;
    known.store(features, std::memory_order_relaxed);
  }
  return features & ~static_cast<uint64_t>(UFFD_WITHHELD_FEATURES());
}

Userfaultfd Userfaultfd::Adopt(FileDescriptor fd) noexcept {
  Userfaultfd adopted;
  adopted.fd_ = std::move(fd);
  return adopted;
}

Userfaultfd::Opened Userfaultfd::Open(const OpenRequest& request) noexcept {
  Opened opened;
  for (const Access access : AccessOrder(request.user_mode)) {
    int error = 0;
    FileDescriptor fd = OpenBy(access, &error);
    opened.attempts.push_back({access, error});
    opened.failure = {error, CallName(access)};
    if (error != 0) continue;

    const Result<uint64_t> offered = Offered(access);
    if (!offered) {
      opened.failure = offered.Error();
      opened.attempts.back().error = offered.Error().error;
      continue;
    }
    opened.missing_features = request.required_features & ~offered.Value();
    if (opened.missing_features != 0) {
      opened.failure = {EINVAL, "ioctl(UFFDIO_API)"};
      return opened;
    }

    uint64_t wanted = request.required_features | (request.optional_features & offered.Value());
    Result<uffdio_api> agreed = Handshake(fd.Get(), wanted);
    // EVENT_FORK is offered to everybody and refused without CAP_SYS_PTRACE.
    const uint64_t fork = UFFD_FEATURE_EVENT_FORK & ~request.required_features;
    if (!agreed && agreed.Error().error == EPERM && (wanted & fork) != 0) {
      wanted &= ~fork;
      agreed = Handshake(fd.Get(), wanted);
    }
    if (!agreed) {
      opened.failure = agreed.Error();
      opened.attempts.back().error = agreed.Error().error;
      return opened;
    }
    opened.uffd.fd_ = std::move(fd);
    opened.uffd.features_ = wanted;
    opened.uffd.access_ = access;
    opened.failure = {};
    return opened;
  }
  return opened;
}

Result<uint64_t> Userfaultfd::Register(Range range, uint64_t mode) noexcept {
  uffdio_register args{{range.start, range.Length()}, mode, 0};
  if (ioctl(Fd(), UFFDIO_REGISTER, &args) != 0) return Failure{errno, "ioctl(UFFDIO_REGISTER)"};
  return static_cast<uint64_t>(args.ioctls);
}

Status Userfaultfd::Unregister(Range range) noexcept {
  uffdio_range args{range.start, range.Length()};
  if (ioctl(Fd(), UFFDIO_UNREGISTER, &args) != 0) {
    return Failure{errno, "ioctl(UFFDIO_UNREGISTER)"};
  }
  return Done{};
}

Status Userfaultfd::Wake(Range range) noexcept {
  uffdio_range args{range.start, range.Length()};
  if (ioctl(Fd(), UFFDIO_WAKE, &args) != 0) return Failure{errno, "ioctl(UFFDIO_WAKE)"};
  return Done{};
}

Status Userfaultfd::WriteProtect(Range range, uint64_t mode) noexcept {
  uffdio_writeprotect args{{range.start, range.Length()}, mode};
  if (ioctl(Fd(), UFFDIO_WRITEPROTECT, &args) != 0) {
    return Failure{errno, "ioctl(UFFDIO_WRITEPROTECT)"};
  }
  return Done{};
}

Partial Userfaultfd::Copy(Range destination, const void* source, uint64_t mode) noexcept {
  uffdio_copy args{};
  args.dst = destination.start;
  args.src = reinterpret_cast<uint64_t>(source);
  args.len = destination.Length();
  args.mode = mode;
  const int returned = ioctl(Fd(), UFFDIO_COPY, &args);
  return PartialResult(returned, args.copy);
}

Partial Userfaultfd::Zeropage(Range range, uint64_t mode) noexcept {
  uffdio_zeropage args{{range.start, range.Length()}, mode, 0};
  const int returned = ioctl(Fd(), UFFDIO_ZEROPAGE, &args);
  return PartialResult(returned, args.zeropage);
}

Partial Userfaultfd::Continue(Range range, uint64_t mode) noexcept {
  uffdio_continue args{{range.start, range.Length()}, mode, 0};
  const int returned = ioctl(Fd(), UFFDIO_CONTINUE, &args);
  return PartialResult(returned, args.mapped);
}

Partial Userfaultfd::Poison(Range range, uint64_t mode) noexcept {
  NotePoison();
  uffdio_poison args{{range.start, range.Length()}, mode, 0};
  const int returned = ioctl(Fd(), UFFDIO_POISON, &args);
  return PartialResult(returned, args.updated);
}

Partial Userfaultfd::Move(Range destination, uint64_t source, uint64_t mode) noexcept {
  uffdio_move args{destination.start, source, destination.Length(), mode, 0};
  const int returned = ioctl(Fd(), UFFDIO_MOVE, &args);
  return PartialResult(returned, args.move);
}

Result<size_t> Userfaultfd::Read(uffd_msg* messages, size_t capacity) noexcept {
  const ssize_t bytes = read(Fd(), messages, capacity * sizeof(uffd_msg));
  if (bytes >= 0) return static_cast<size_t>(bytes) / sizeof(uffd_msg);
  if (errno == EAGAIN || errno == EINTR) return size_t{0};
  return Failure{errno, "read(userfaultfd)"};
}

}  // namespace uffd
