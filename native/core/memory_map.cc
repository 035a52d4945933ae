#include "core/memory_map.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cinttypes>
#include <cstdio>
#include <memory>
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
  MemoryKind kind = MemoryKind::kUnknown;
};

// start-end rwxp offset major:minor inode
bool Parse(const char* line, MapEntry* entry) noexcept {
  char sharing = 0;
  unsigned int device_major = 0;
  unsigned int device_minor = 0;
  uint64_t inode = 0;
  if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*3c%c %*x %x:%x %" SCNu64, &entry->range.start,
             &entry->range.end, &sharing, &device_major, &device_minor, &inode) != 6) {
    return false;
  }
  const dev_t device = makedev(device_major, device_minor);
  if (inode == 0) {
    entry->kind = sharing == 'p' ? MemoryKind::kPrivateAnonymous : MemoryKind::kUnknown;
  } else {
    const bool is_memfd = SharedMemoryDevice() != 0 && device == SharedMemoryDevice();
    entry->kind = is_memfd ? MemoryKind::kSharedMemory : MemoryKind::kUnknown;
  }
  return true;
}

}  // namespace

MemoryKind KindOf(Range range) noexcept {
  struct CloseFile {
    void operator()(FILE* file) const noexcept { static_cast<void>(fclose(file)); }
  };
  const std::unique_ptr<FILE, CloseFile> maps(fopen("/proc/self/maps", "re"));
  if (!maps) return MemoryKind::kUnknown;
  MemoryKind kind = MemoryKind::kUnknown;
  uint64_t covered = range.start;
  char line[256];
  bool begins_line = true;
  while (covered < range.end && fgets(line, sizeof(line), maps.get()) != nullptr) {
    const bool is_first_part = begins_line;
    begins_line =
        std::char_traits<char>::find(line, std::char_traits<char>::length(line), '\n') != nullptr;
    if (!is_first_part) continue;  // the rest of a long file name
    MapEntry entry;
    if (!Parse(line, &entry)) return MemoryKind::kUnknown;
    if (!entry.range.Overlaps(range)) continue;
    const bool is_same = covered == range.start || entry.kind == kind;
    if (entry.range.start > covered || !is_same) return MemoryKind::kUnknown;
    kind = entry.kind;
    covered = entry.range.end;
  }
  return covered >= range.end ? kind : MemoryKind::kUnknown;
}

}  // namespace uffd
