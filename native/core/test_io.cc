#include "core/test_io.h"

#ifdef UFFD_TEST_BARRIERS

#include <linux/io_uring.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <utility>
#include <vector>

#include "core/file_descriptor.h"
#include "core/kernel_abi.h"
#include "core/mapping.h"
#include "core/pagemap.h"
#include "core/test_kernel.h"
#include "core/userfaultfd.h"
#include "core/wp_async.h"

namespace uffd::testing {
namespace {

constexpr size_t kMostRegions = 64;

void* Pointer(uint64_t address) noexcept { return reinterpret_cast<void*>(address); }

// A part of an io_uring that is shared with the kernel.
class RingPart {
 public:
  RingPart(int ring, size_t bytes, off_t what) noexcept
      : bytes_(bytes),
        data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, what)) {}
  ~RingPart() {
    if (data_ != MAP_FAILED) munmap(data_, bytes_);
  }
  RingPart(const RingPart&) = delete;
  RingPart& operator=(const RingPart&) = delete;

  explicit operator bool() const noexcept { return data_ != MAP_FAILED; }
  template <typename T>
  T* At(size_t offset) const noexcept {
    return reinterpret_cast<T*>(static_cast<uint8_t*>(data_) + offset);
  }

 private:
  const size_t bytes_;
  void* const data_;
};

// Where the parts of a ring with one entry begin: the kernel tells when it makes one.
io_uring_params g_params{};

Result<int> OpenRing() noexcept {
  io_uring_params params{};
  const auto ring = static_cast<int>(syscall(SYS_io_uring_setup, 1, &params));
  if (ring < 0) return Failure{errno, "io_uring_setup"};
  g_params = params;
  return ring;
}

uint32_t Advance(uint32_t* index) noexcept {
  return std::atomic_ref<uint32_t>(*index).fetch_add(1);
}

}  // namespace

Result<int> PinPages(Range memory) noexcept {
  const Result<int> ring = OpenRing();
  if (!ring) return ring;
  const iovec pinned{Pointer(memory.start), memory.Length()};
  if (syscall(SYS_io_uring_register, ring.Value(), IORING_REGISTER_BUFFERS, &pinned, 1) == 0) {
    return ring;
  }
  const int error = errno;
  close(ring.Value());
  return Failure{error, "io_uring_register"};
}

Result<uint64_t> ReadByRing(int ring, int file, uint64_t file_offset, Range memory) noexcept {
  FileDescriptor own;
  if (ring < 0) {
    const Result<int> opened = OpenRing();
    if (!opened) return opened.Error();
    own = FileDescriptor(opened.Value());
  }
  const int fd = ring < 0 ? own.Get() : ring;
  const auto& sq = g_params.sq_off;
  const auto& cq = g_params.cq_off;
  const RingPart submissions(fd, sq.array + g_params.sq_entries * sizeof(uint32_t),
                             IORING_OFF_SQ_RING);
  const RingPart completions(fd, cq.cqes + g_params.cq_entries * sizeof(io_uring_cqe),
                             IORING_OFF_CQ_RING);
  const RingPart entries(fd, g_params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES);
  if (!submissions || !completions || !entries) return Failure{errno, "mmap(io_uring)"};

  io_uring_sqe entry{};
  entry.opcode = ring < 0 ? IORING_OP_READ : IORING_OP_READ_FIXED;
  entry.fd = file;
  entry.off = file_offset;
  entry.addr = memory.start;
  entry.len = static_cast<uint32_t>(memory.Length());
  *entries.At<io_uring_sqe>(0) = entry;
  *submissions.At<uint32_t>(sq.array) = 0;
  Advance(submissions.At<uint32_t>(sq.tail));
  if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0) != 1) {
    return Failure{errno, "io_uring_enter"};
  }
  const uint32_t mask = *completions.At<uint32_t>(cq.ring_mask);
  const uint32_t head = Advance(completions.At<uint32_t>(cq.head));
  const int32_t result = completions.At<io_uring_cqe>(cq.cqes)[head & mask].res;
  if (result < 0) return Failure{-result, "io_uring"};
  return static_cast<uint64_t>(result);
}

Status WriteFromOutside(Range memory, uint8_t value) noexcept {
  std::vector<uint8_t> bytes(memory.Length(), value);
  const iovec from{bytes.data(), bytes.size()};
  const iovec to{Pointer(memory.start), memory.Length()};
  const ssize_t written = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
  if (written == static_cast<ssize_t>(bytes.size())) return Done{};
  return Failure{written < 0 ? errno : EIO, "process_vm_writev"};
}

Status Protect(Range memory, int prot) noexcept {
  if (mprotect(Pointer(memory.start), memory.Length(), prot) == 0) return Done{};
  return Failure{errno, "mprotect"};
}

Result<int> Spawn(const char* program) noexcept {
  std::array<char*, 2> arguments{const_cast<char*>(program), nullptr};
  pid_t pid = 0;
  const int error = posix_spawn(&pid, program, nullptr, nullptr, arguments.data(), environ);
  if (error != 0) return Failure{error, "posix_spawn"};
  return ReapChild(pid);
}

Result<uint8_t> ReadInThread(Range memory) noexcept {
  pthread_t thread{};
  const auto read = [](void* byte) {
    const uint8_t value = *static_cast<volatile uint8_t*>(byte);
    return reinterpret_cast<void*>(uintptr_t{value});
  };
  const int error = pthread_create(&thread, nullptr, read, reinterpret_cast<void*>(memory.start));
  if (error != 0) return Failure{error, "pthread_create"};
  void* value = nullptr;
  pthread_join(thread, &value);
  return static_cast<uint8_t>(reinterpret_cast<uintptr_t>(value));
}

Status ScanOnce(Range memory, size_t room, RangeSet* written) noexcept {
  const Result<int> pagemap = Pagemap::Descriptor();
  if (!pagemap) return pagemap.Error();
  std::array<page_region, kMostRegions> found{};
  pm_scan_arg args{};
  args.size = sizeof(args);
  args.flags = PM_SCAN_CHECK_WPASYNC | PM_SCAN_WP_MATCHING;
  args.start = memory.start;
  args.end = memory.end;
  args.vec = reinterpret_cast<uint64_t>(found.data());
  args.vec_len = std::min(room, found.size());
  args.category_mask = PAGE_IS_WRITTEN;
  args.return_mask = PAGE_IS_WRITTEN;
  const int count = ioctl(pagemap.Value(), PAGEMAP_SCAN, &args);
  if (count < 0) return Failure{errno, "ioctl(PAGEMAP_SCAN)"};
  for (int i = 0; i < count; i++) written->Add({found[i].start, found[i].end});
  return Done{};
}

Result<Registered> RegisterEveryOther(Range memory) noexcept {
  OpenRequest request;
  request.required_features = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
  request.user_mode = UserMode::kOnly;
  Userfaultfd::Opened opened = Userfaultfd::Open(request);
  if (opened.failure.error != 0) return opened.failure;
  Registered done{0, 0};
  for (uint64_t page = memory.start; page < memory.end; page += 2 * PageSize()) {
    const auto registered =
        opened.uffd.Register({page, page + PageSize()}, UFFDIO_REGISTER_MODE_WP);
    if (!registered) {
      done.error = registered.Error().error;
      break;
    }
    done.count++;
  }
  // The mappings that were split are joined again before anybody needs one.
  static_cast<void>(opened.uffd.Unregister(memory).Ok());
  return done;
}

Status RegisterUnarmed(Range memory) noexcept {
  static Userfaultfd::Opened opened = OpenAsyncTracking();
  if (opened.failure.error != 0) return opened.failure;
  const auto registered = opened.uffd.Register(memory, UFFDIO_REGISTER_MODE_WP);
  if (!registered) return registered.Error();
  return Done{};
}

}  // namespace uffd::testing

#endif  // UFFD_TEST_BARRIERS
