#include "core/test_kernel.h"

#ifdef UFFD_TEST_BARRIERS

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iterator>

#include "core/file_descriptor.h"
#include "core/kernel_abi.h"
#include "core/pagemap.h"
#include "core/userfaultfd.h"

#ifndef MADV_COLLAPSE  // Linux 6.1
#define MADV_COLLAPSE 25
#endif

namespace uffd::testing {
namespace {

constexpr size_t kMostPages = 64;
constexpr int kChildFailed = 99;
std::atomic<uint32_t> g_sigbus_count{0};
Range g_taken;  // by TakeMappings

// In the child only what needs no lock: the other threads, and what they held, are gone.
class ChildMain {
 public:
  ChildMain(Range memory, uint64_t page_size, int orders, int report) noexcept
      : memory_(memory),
        page_size_(page_size),
        pages_(std::min<size_t>(memory.Length() / page_size, kMostPages)),
        orders_(orders),
        report_(report) {}

  [[noreturn]] void Run(uint8_t value, const char* pin_file) noexcept {
    pagemap_ = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap_ < 0) _exit(kChildFailed);
    if (*pin_file != '\0') ReadDirectly(pin_file);
    char order = 0;
    while (read(orders_, &order, 1) == 1) {
      if (order == 'x') break;
      if (order == 'w') Write(value);
      if (order == 'd') GiveBack();
      if (order == 'f') Fork(value);
      if (order == 'e') execl("/bin/sleep", "sleep", "600", static_cast<char*>(nullptr));
      for (size_t i = 0; i < pages_; i++) told_[i] = order == 'a' ? Armed(i) : *Page(i);
      if (write(report_, told_, pages_) != static_cast<ssize_t>(pages_)) _exit(kChildFailed);
    }
    _exit(0);
  }

 private:
  volatile uint8_t* Page(size_t index) const noexcept {
    return reinterpret_cast<volatile uint8_t*>(memory_.start + index * page_size_);
  }

  bool Armed(size_t index) const noexcept {
    constexpr uint64_t kUffdWp = uint64_t{1} << 57;
    const uint64_t address = memory_.start + index * page_size_;
    uint64_t entry = 0;
    const auto at = static_cast<off_t>(address / PageSize() * sizeof(entry));
    if (pread(pagemap_, &entry, sizeof(entry), at) != sizeof(entry)) _exit(kChildFailed);
    return (entry & kUffdWp) != 0;
  }

  void ReadDirectly(const char* pin_file) const noexcept {
    const int fd = open(pin_file, O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0) _exit(kChildFailed);
    for (size_t i = 0; i < pages_; i++) {
      const auto size = static_cast<ssize_t>(PageSize());
      if (write(fd, const_cast<const uint8_t*>(Page(i)), PageSize()) != size) _exit(kChildFailed);
    }
    close(fd);
  }

  void Write(uint8_t value) const noexcept {
    for (size_t i = 0; i < pages_; i++) *Page(i) = value;
  }

  void GiveBack() const noexcept {
    auto* const start = reinterpret_cast<void*>(memory_.start);
    if (madvise(start, memory_.Length(), MADV_DONTNEED) != 0) _exit(kChildFailed);
  }

  void Fork(uint8_t value) const noexcept {
    const auto pid = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (pid == 0) {
      Write(value);
      _exit(0);
    }
    if (pid < 0 || ReapChild(pid) != 0) _exit(kChildFailed);
  }

  const Range memory_;
  const uint64_t page_size_;
  const size_t pages_;
  const int orders_;
  const int report_;
  int pagemap_ = -1;
  uint8_t told_[kMostPages] = {};
};

}  // namespace

Result<Child> ForkChild(Range memory, uint64_t page_size, uint8_t value,
                        const std::string& pin_file) noexcept {
  int orders[2];
  int report[2];
  if (pipe2(orders, O_CLOEXEC) != 0) return Failure{errno, "pipe2"};
  FileDescriptor orders_out(orders[0]);
  FileDescriptor orders_in(orders[1]);
  if (pipe2(report, O_CLOEXEC) != 0) return Failure{errno, "pipe2"};
  FileDescriptor report_out(report[0]);
  const FileDescriptor report_in(report[1]);
  const pid_t pid = fork();
  if (pid < 0) return Failure{errno, "fork"};
  if (pid > 0) return Child{pid, orders_in.Release(), report_out.Release()};
  // Its own end of the orders would keep it from seeing theirs.
  orders_in.Reset();
  ChildMain(memory, page_size, orders_out.Get(), report_in.Get()).Run(value, pin_file.c_str());
}

int ReapChild(int pid) noexcept {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return status;
}

int SecondHandshake() noexcept {
  int error = 0;
  const FileDescriptor fd = Userfaultfd::OpenBy(Access::kUserModeOnly, &error);
  if (error != 0) return error;
  if (!Userfaultfd::Handshake(fd.Get(), 0)) return -1;
  const Result<uffdio_api> again = Userfaultfd::Handshake(fd.Get(), 0);
  return again ? 0 : again.Error().error;
}

Status MapAnew(Range memory) noexcept {
  constexpr int kFlags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* const at = mmap(reinterpret_cast<void*>(memory.start), memory.Length(),
                        PROT_READ | PROT_WRITE, kFlags, -1, 0);
  if (at == MAP_FAILED) return Failure{errno, "mmap"};
  return Done{};
}

Status Unmap(Range pages) noexcept {
  if (munmap(reinterpret_cast<void*>(pages.start), pages.Length()) == 0) return Done{};
  return Failure{errno, "munmap"};
}

Status MapTwice(Range memory) noexcept {
  void* const at = reinterpret_cast<void*>(memory.start);
  if (mremap(at, 0, memory.Length(), MREMAP_MAYMOVE) == MAP_FAILED) return Failure{errno, "mremap"};
  return Done{};
}

Status MapFile(Range memory, const std::string& path) noexcept {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return Failure{errno, "open"};
  void* const at = mmap(reinterpret_cast<void*>(memory.start), memory.Length(), PROT_READ,
                        MAP_FIXED | MAP_SHARED, file.Get(), 0);
  if (at == MAP_FAILED) return Failure{errno, "mmap"};
  return Done{};
}

Status TakeMappings() noexcept {
  // Each page that differs from those beside it is two mappings more.
  constexpr uint64_t kPages = 4'000'000;
  const uint64_t bytes = kPages * PageSize();
  void* const room =
      mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return Failure{errno, "mmap"};
  g_taken = {reinterpret_cast<uint64_t>(room), reinterpret_cast<uint64_t>(room) + bytes};
  const auto differs = [](uint64_t page) {
    return mprotect(reinterpret_cast<void*>(page), PageSize(), PROT_READ) == 0;
  };
  uint64_t page = g_taken.start + PageSize();
  while (page < g_taken.end && differs(page)) page += 2 * PageSize();
  // The last page is one more, where there was room for one.
  static_cast<void>(differs(g_taken.end - PageSize()));
  if (page < g_taken.end && errno == ENOMEM) return Done{};
  GiveMappings(kPages);
  return Failure{ERANGE, "mprotect"};
}

void GiveMappings(uint64_t count) noexcept {
  const Range given{g_taken.start, std::min(g_taken.end, g_taken.start + count * PageSize())};
  if (!given.Empty()) munmap(reinterpret_cast<void*>(given.start), given.Length());
  g_taken.start = given.end;
}

Result<Pair> DatagramPair() noexcept {
  Pair pair{};
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair.fds) != 0) {
    return Failure{errno, "socketpair"};
  }
  return pair;
}

Status InheritOnFork(Range memory) noexcept {
  if (madvise(reinterpret_cast<void*>(memory.start), memory.Length(), MADV_DOFORK) != 0) {
    return Failure{errno, "madvise(MADV_DOFORK)"};
  }
  return Done{};
}

Status Remap(Range memory, uint64_t page_size) noexcept {
  const size_t bytes = memory.Length();
  auto* const here = reinterpret_cast<void*>(memory.start);
  void* const room =
      mmap(nullptr, bytes + page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) return Failure{errno, "mmap"};
  const auto from = reinterpret_cast<uint64_t>(room);
  auto* const there = reinterpret_cast<void*>((from + page_size - 1) / page_size * page_size);
  constexpr int kTo = MREMAP_MAYMOVE | MREMAP_FIXED;
  if (mremap(here, bytes, bytes, kTo, there) == MAP_FAILED) return Failure{errno, "mremap"};
  // Nobody else may be given the addresses meanwhile.
  if (mmap(here, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) !=
      here) {
    return Failure{EEXIST, "mmap(MAP_FIXED_NOREPLACE)"};
  }
  if (mremap(there, bytes, bytes, kTo, here) == MAP_FAILED) return Failure{errno, "mremap"};
  munmap(room, bytes + page_size);
  return Done{};
}

Status GiveBack(Range memory, int advice) noexcept {
  if (madvise(reinterpret_cast<void*>(memory.start), memory.Length(), advice) == 0) return Done{};
  return Failure{errno, "madvise"};
}

void CountSigbus() noexcept {
  struct sigaction counting {};
  counting.sa_flags = SA_SIGINFO;
  counting.sa_sigaction = [](int /*signal*/, siginfo_t* info, void* /*context*/) {
    g_sigbus_count++;
    const auto address = reinterpret_cast<uint64_t>(info->si_addr);
    static_cast<void>(MapAnew(Range{address, address + 1}.RoundOutward(PageSize())).Ok());
  };
  sigaction(SIGBUS, &counting, nullptr);
}

uint32_t SigbusCount() noexcept { return g_sigbus_count.load(); }

void BlockSigbus() noexcept {
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGBUS);
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
}

Result<uint64_t> CollectAndCopy(Range memory, Range to) noexcept {
  static Result<Pagemap> pagemap = Pagemap::Create();
  if (!pagemap) return pagemap.Error();
  RangeSet written;
  const Status scanned = pagemap.Value().Written(memory, Pagemap::Rearm::kYes, &written);
  if (!scanned) return scanned.Error();
  for (const Range& pages : written.Ranges()) {
    std::memcpy(reinterpret_cast<void*>(to.start + (pages.start - memory.start)),
                reinterpret_cast<const void*>(pages.start), pages.Length());
  }
  return written.Bytes();
}

Status Collapse(Range memory) noexcept {
  // EAGAIN: somebody holds a page for a moment.
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; i++) {
    if (madvise(reinterpret_cast<void*>(memory.start), memory.Length(), MADV_COLLAPSE) == 0) {
      return Done{};
    }
    if (errno != EAGAIN) break;
  }
  return Failure{errno, "madvise(MADV_COLLAPSE)"};
}

Result<uint64_t> HugeBytes(Range memory) noexcept {
  const Result<int> pagemap = Pagemap::Descriptor();
  if (!pagemap) return pagemap.Error();
  page_region found[64];
  pm_scan_arg args{};
  args.size = sizeof(args);
  args.start = memory.start;
  args.end = memory.end;
  args.vec = reinterpret_cast<uint64_t>(found);
  args.vec_len = std::size(found);
  args.category_mask = PAGE_IS_HUGE;
  args.return_mask = PAGE_IS_HUGE;
  const int count = ioctl(pagemap.Value(), PAGEMAP_SCAN, &args);
  if (count < 0) return Failure{errno, "ioctl(PAGEMAP_SCAN)"};
  uint64_t bytes = 0;
  for (int i = 0; i < count; i++) bytes += found[i].end - found[i].start;
  return bytes;
}

}  // namespace uffd::testing

#endif  // UFFD_TEST_BARRIERS
