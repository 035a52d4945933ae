#include "core/pagemap.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

namespace uffd {
namespace {

// 768 KiB: a scattered tenth of 1 GiB comes back in one ioctl.
constexpr size_t kRegions = 32768;

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
  Pagemap pagemap(fd.Value());
  pagemap.regions_ = std::make_unique<page_region[]>(kRegions);
  return pagemap;
}

Status Pagemap::Written(Range range, Rearm rearm, RangeSet* written) noexcept {
  const uint64_t flags = PM_SCAN_CHECK_WPASYNC | (rearm == Rearm::kYes ? PM_SCAN_WP_MATCHING : 0);
  return Scan(range, {flags, 0, PAGE_IS_WRITTEN, 0, PAGE_IS_WRITTEN}, written);
}

Status Pagemap::Armed(Range range, RangeSet* armed) noexcept {
  // An armed page that does not exist yet is a marker, which the kernel counts as swapped.
  const uint64_t exists = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
  return Scan(range, {0, PAGE_IS_WRITTEN, PAGE_IS_WRITTEN, exists, PAGE_IS_PRESENT}, armed);
}

Status Pagemap::Scan(Range range, const Query& query, RangeSet* found) noexcept {
  pm_scan_arg args{};
  args.size = sizeof(args);
  args.flags = query.flags;
  args.end = range.end;
  args.vec = reinterpret_cast<uint64_t>(regions_.get());
  args.vec_len = kRegions;
  args.category_inverted = query.inverted;
  args.category_mask = query.all_of;
  args.category_anyof_mask = query.any_of;
  args.return_mask = query.returned;
  uint64_t start = range.start;
  while (start < range.end) {
    args.start = start;
    const int count = ioctl(fd_, PAGEMAP_SCAN, &args);
    if (count < 0) {
      if (errno == EINTR) continue;
      return Failure{errno, "ioctl(PAGEMAP_SCAN)"};
    }
    for (int i = 0; i < count; i++) found->Add({regions_[i].start, regions_[i].end});
    if (static_cast<size_t>(count) < kRegions) return Done{};
    // walk_end can lag behind the last result, so it alone neither ends nor advances the walk.
    start = std::max<uint64_t>(args.walk_end, regions_[count - 1].end);
  }
  return Done{};
}

}  // namespace uffd
