#include "core/pagemap.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "core/parallel_parts.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// 768 KiB: a scattered tenth of 1 GiB comes back in one ioctl.
constexpr size_t kRegions = 32768;

// So much takes long enough to be scanned in parts.
constexpr uint64_t kLarge = uint64_t{32} << 20;

// Of an entry in /proc/self/pagemap: write-protected by a userfaultfd (Linux 5.14).
constexpr uint64_t kUffdWp = uint64_t{1} << 57;

void AddFound(const page_region* found, size_t count, RangeSet* set) {
  set->AddInOrder(count, [found](size_t i) { return Range{found[i].start, found[i].end}; });
}

// What the ioctl returns for pages of a category, or (`inverted`) for those that are not of it. Of
// what it finds one region at most is told: this needs no memory.
int ScanForOne(int fd, Range range, uint64_t flags, uint64_t category, uint64_t inverted,
               Range* one = nullptr) noexcept {
  page_region found{};
  pm_scan_arg args{};
  args.size = sizeof(args);
  args.flags = flags;
  args.start = range.start;
  args.end = range.end;
  args.vec = reinterpret_cast<uint64_t>(&found);
  args.vec_len = 1;
  args.category_inverted = inverted;
  args.category_mask = category;
  args.return_mask = category;
  const int count = ioctl(fd, PAGEMAP_SCAN, &args);
  if (one != nullptr) *one = {found.start, found.end};
  return count;
}

}  // namespace

Result<int> Pagemap::Descriptor() noexcept {
  static std::mutex opening;
  static int fd = -1;
  const std::lock_guard<std::mutex> lock(opening);
  if (fd < 0) fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Failure{errno, "open(/proc/self/pagemap)"};
  return fd;
}

Result<Pagemap> Pagemap::Create() noexcept {
  const Result<int> fd = Descriptor();
  if (!fd) return fd.Error();
  const size_t room = UFFD_SCAN_ROOM() == 0 ? kRegions : UFFD_SCAN_ROOM();
  const Result<std::shared_ptr<Mapping>> memory = Mapping::Anonymous(room * sizeof(page_region));
  if (!memory) return memory.Error();
  return Pagemap(fd.Value(), memory.Value(), room);
}

Pagemap::Pagemap(int fd, std::shared_ptr<Mapping> memory, size_t room) noexcept
    : fd_(fd),
      room_(room),
      memory_(std::move(memory)),
      regions_(reinterpret_cast<page_region*>(memory_->Data())) {}

bool Pagemap::IsArmed(uint64_t address) noexcept {
  if (!UFFD_SEES_PROTECTION()) return false;
  const Result<int> fd = Descriptor();
  uint64_t entry = 0;
  const auto at = static_cast<off_t>(address / PageSize() * sizeof(entry));
  if (!fd || pread(fd.Value(), &entry, sizeof(entry), at) != sizeof(entry)) return false;
  return (entry & kUffdWp) != 0;
}

bool Pagemap::IsTracked(Range range) noexcept {
  const Result<int> fd = Descriptor();
  if (!fd) return false;
  // Asks for pages that are not, which there are none of where the check does not fail.
  return ScanForOne(fd.Value(), range, PM_SCAN_CHECK_WPASYNC, PAGE_IS_WPALLOWED,
                    PAGE_IS_WPALLOWED) == 0;
}

bool Pagemap::IsPresent(Range range) noexcept {
  const Result<int> fd = Descriptor();
  if (!fd) return false;
  // Asks for those that are there: where nothing is mapped nothing is told of others, either.
  Range present;
  return ScanForOne(fd.Value(), range, 0, PAGE_IS_PRESENT, 0, &present) == 1 &&
         present.Contains(range);
}

Status Pagemap::Check(Range page) noexcept {
  const Result<int> fd = Descriptor();
  if (!fd) return fd.Error();
  if (ScanForOne(fd.Value(), page, 0, PAGE_IS_PRESENT, 0) >= 0) return Done{};
  return Failure{errno, "ioctl(PAGEMAP_SCAN)"};
}

Pagemap::Query Pagemap::QueryWritten(Rearm rearm) noexcept {
  const uint64_t flags = PM_SCAN_CHECK_WPASYNC | (rearm == Rearm::kYes ? PM_SCAN_WP_MATCHING : 0);
  return {flags, 0, PAGE_IS_WRITTEN, 0, PAGE_IS_WRITTEN};
}

Status Pagemap::Written(Range range, Rearm rearm, RangeSet* written) noexcept {
  return Scan(range, QueryWritten(rearm), [written](const page_region* found, size_t count) {
    AddFound(found, count, written);
  });
}

Status Pagemap::CollectPacked(Range range, PackedPages* written) noexcept {
  return Scan(range, QueryWritten(Rearm::kYes), [written](const page_region* found, size_t count) {
    written->AddFound(found, count);
  });
}

Result<bool> Pagemap::AnyWritten(Range range, Rearm rearm) noexcept {
  bool any = false;
  const Status scanned =
      Scan(range, QueryWritten(rearm), [&any](const page_region* /*found*/, size_t count) {
        if (count > 0) any = true;
      });
  if (!scanned) return scanned.Error();
  return any;
}

Result<bool> Pagemap::AnyWrittenWithHelp(Range range) noexcept {
  std::atomic<bool> any{false};
  const auto scan = [&any, this](Range part) noexcept -> Status {
    if (any) return Done{};
    int found = 0;
    do {
      found = ScanForOne(fd_, part, PM_SCAN_CHECK_WPASYNC, PAGE_IS_WRITTEN, 0);
    } while (found < 0 && errno == EINTR);
    if (const int injected = UFFD_INJECTED_SCAN_ERROR(); injected != 0) {
      errno = injected;
      found = -1;
    }
    if (found < 0) return Failure{errno, "ioctl(PAGEMAP_SCAN)"};
    if (found > 0) any = true;
    return Done{};
  };
  const Status scanned =
      range.Length() < kLarge ? scan(range) : CallInParallel(range, PageSize(), false, scan);
  if (!scanned) return scanned.Error();
  return any.load();
}

Status Pagemap::Armed(Range range, RangeSet* armed) noexcept {
  // An armed page that does not exist yet is a marker, which the kernel counts as swapped.
  const uint64_t exists = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
  return Scan(range, {0, PAGE_IS_WRITTEN, PAGE_IS_WRITTEN, exists, PAGE_IS_PRESENT},
              [armed](const page_region* found, size_t count) { AddFound(found, count, armed); });
}

Status Pagemap::Unarmed(Range range, RangeSet* unarmed) noexcept {
  RangeSet armed;
  if (!Armed(range, &armed)) return UnarmedByEntries(range, unarmed);
  RangeSet rest;
  rest.Add(range);
  rest.RemoveAll(&armed);
  unarmed->AddAll(rest);
  return Done{};
}

Status Pagemap::UnarmedByEntries(Range range, RangeSet* unarmed) noexcept {
  const size_t room = memory_->Bytes() / sizeof(uint64_t);
  const auto* const entries = reinterpret_cast<const uint64_t*>(memory_->Data());
  const uint64_t size = PageSize();
  for (uint64_t start = range.start; start < range.end;) {
    const size_t wanted = std::min<uint64_t>(room, (range.end - start) / size);
    const ssize_t bytes = pread(fd_, memory_->Data(), wanted * sizeof(uint64_t),
                                static_cast<off_t>(start / size * sizeof(uint64_t)));
    if (bytes <= 0) return Failure{bytes < 0 ? errno : EIO, "read(/proc/self/pagemap)"};
    const size_t count = static_cast<size_t>(bytes) / sizeof(uint64_t);
    for (size_t i = 0; i < count; i++) {
      if ((entries[i] & kUffdWp) == 0) unarmed->Add({start + i * size, start + (i + 1) * size});
    }
    start += count * size;
  }
  return Done{};
}

template <typename Take>
Status Pagemap::Scan(Range range, const Query& query, Take take) noexcept {
  pm_scan_arg args{};
  args.size = sizeof(args);
  args.flags = query.flags;
  args.end = range.end;
  args.vec = reinterpret_cast<uint64_t>(regions_);
  args.vec_len = room_;
  args.category_inverted = query.inverted;
  args.category_mask = query.all_of;
  args.category_anyof_mask = query.any_of;
  args.return_mask = query.returned;
  uint64_t start = range.start;
  while (start < range.end) {
    args.start = start;
    int count = ioctl(fd_, PAGEMAP_SCAN, &args);
    if (const int injected = UFFD_INJECTED_SCAN_ERROR(); injected != 0) {
      errno = injected;
      count = -1;
    }
    if (count < 0) {
      if (errno == EINTR) continue;
      return Failure{errno, "ioctl(PAGEMAP_SCAN)"};
    }
    take(regions_, static_cast<size_t>(count));
    if (static_cast<size_t>(count) < room_) return Done{};
    // walk_end can lag behind the last result, so it alone neither ends nor advances the walk.
    start = std::max<uint64_t>(args.walk_end, regions_[count - 1].end);
  }
  return Done{};
}

}  // namespace uffd
