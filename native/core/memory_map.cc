#include "core/memory_map.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cinttypes>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "core/file_descriptor.h"

namespace uffd {

namespace {

// The filesystem on which all memfds are, and no file that anybody could open: of those with a name
// the missing pages are not zero. 0 when there is none.
dev_t SharedMemoryDevice() noexcept {
  static const dev_t device = [] {
    const FileDescriptor fd(memfd_create("userfaultfd-probe", MFD_CLOEXEC));
    struct stat status {};
    return fd && fstat(fd.Get(), &status) == 0 ? status.st_dev : dev_t{0};
  }();
  return device;
}

struct MapEntry {
  Range range;
  bool is_private = false;
  uint64_t device = 0;
  uint64_t inode = 0;  // 0: no file
};

// start-end rwxp offset major:minor inode
bool Parse(const char* line, MapEntry* entry) noexcept {
  char sharing = 0;
  unsigned int device_major = 0;
  unsigned int device_minor = 0;
  if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*3c%c %*x %x:%x %" SCNu64, &entry->range.start,
             &entry->range.end, &sharing, &device_major, &device_minor, &entry->inode) != 6) {
    return false;
  }
  entry->is_private = sharing == 'p';
  entry->device = makedev(device_major, device_minor);
  return true;
}

enum class Covered { kYes, kNo, kUnknown };

// Whether the mappings that `belongs` says yes to cover the range.
template <typename Belongs>
Covered CoveredBy(Range range, Belongs belongs) noexcept {
  struct CloseFile {
    void operator()(FILE* file) const noexcept { static_cast<void>(fclose(file)); }
  };
  const std::unique_ptr<FILE, CloseFile> maps(fopen("/proc/self/maps", "re"));
  if (!maps) return Covered::kUnknown;
  uint64_t covered = range.start;
  char line[256];
  bool begins_line = true;
  while (covered < range.end && fgets(line, sizeof(line), maps.get()) != nullptr) {
    const bool is_first_part = begins_line;
    begins_line =
        std::char_traits<char>::find(line, std::char_traits<char>::length(line), '\n') != nullptr;
    if (!is_first_part) continue;  // the rest of a long file name
    MapEntry entry;
    if (!Parse(line, &entry)) return Covered::kUnknown;
    if (!entry.range.Overlaps(range)) continue;
    if (entry.range.start > covered || !belongs(entry)) return Covered::kNo;
    covered = entry.range.end;
  }
  return covered >= range.end ? Covered::kYes : Covered::kNo;
}

MemoryKind KindOf(const MapEntry& entry) noexcept {
  if (entry.inode == 0) {
    return entry.is_private ? MemoryKind::kPrivateAnonymous : MemoryKind::kUnknown;
  }
  const dev_t memfds = SharedMemoryDevice();
  return memfds != 0 && entry.device == memfds ? MemoryKind::kSharedMemory : MemoryKind::kUnknown;
}

}  // namespace

MemoryKind KindOf(Range range) noexcept {
  std::optional<MemoryKind> kind;
  const Covered covered = CoveredBy(range, [&kind](const MapEntry& entry) {
    const MemoryKind each = KindOf(entry);
    if (!kind) kind = each;
    return *kind == each;
  });
  return covered == Covered::kYes && kind ? *kind : MemoryKind::kUnknown;
}

bool ShowsFile(Range range, uint64_t device, uint64_t inode) noexcept {
  return CoveredBy(range, [=](const MapEntry& entry) {
           return entry.device == device && entry.inode == inode;
         }) != Covered::kNo;
}

}  // namespace uffd
