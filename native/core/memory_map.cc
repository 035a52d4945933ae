#include "core/memory_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>

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
  MapReader maps;
  MapEntry entry;
  uint64_t covered = range.start;
  while (covered < range.end && maps.Next(&entry)) {
    if (!entry.range.Overlaps(range)) continue;
    if (entry.range.start > covered || !belongs(entry)) return Covered::kNo;
    covered = entry.range.end;
  }
  if (maps.Failed()) return Covered::kUnknown;
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

MapReader::MapReader() noexcept
    : file_(open("/proc/self/maps", O_RDONLY | O_CLOEXEC)), failed_(!file_) {}

bool MapReader::Next(MapEntry* entry) noexcept {
  while (!failed_) {
    char* const line = buffer_ + begin_;
    auto* const newline = static_cast<char*>(std::memchr(line, '\n', end_ - begin_));
    const bool is_rest = in_name_;
    if (newline != nullptr) {
      *newline = '\0';
      begin_ = static_cast<size_t>(newline - buffer_) + 1;
      in_name_ = false;
    } else if (end_ - begin_ == sizeof(buffer_) - 1) {
      // A long file name: all that is looked at comes before it.
      buffer_[end_] = '\0';
      begin_ = end_;
      in_name_ = true;
    } else if (ReadMore()) {
      continue;
    } else {
      return false;
    }
    if (is_rest) continue;
    failed_ = !Parse(line, entry);
    return !failed_;
  }
  return false;
}

bool MapReader::ReadMore() noexcept {
  std::memmove(buffer_, buffer_ + begin_, end_ - begin_);
  end_ -= std::exchange(begin_, 0);
  ssize_t count = 0;
  do {
    count = read(file_.Get(), buffer_ + end_, sizeof(buffer_) - 1 - end_);
  } while (count < 0 && errno == EINTR);
  failed_ = count < 0;
  if (count > 0) end_ += static_cast<size_t>(count);
  return count > 0;
}

MemoryKind KindOf(Range range) noexcept {
  std::optional<MemoryKind> kind;
  const Covered covered = CoveredBy(range, [&kind](const MapEntry& entry) {
    const MemoryKind each = KindOf(entry);
    if (!kind) kind = each;
    return *kind == each;
  });
  return covered == Covered::kYes && kind ? *kind : MemoryKind::kUnknown;
}

std::optional<FileIdentity> FileAt(Range range) noexcept {
  std::optional<FileIdentity> file;
  const Covered covered = CoveredBy(range, [&file](const MapEntry& entry) {
    if (!file) file = FileIdentity{entry.device, entry.inode};
    return file->device == entry.device && file->inode == entry.inode && entry.inode != 0;
  });
  return covered == Covered::kYes ? file : std::nullopt;
}

bool ShowsFile(Range range, uint64_t device, uint64_t inode) noexcept {
  return CoveredBy(range, [=](const MapEntry& entry) {
           return entry.device == device && entry.inode == inode;
         }) != Covered::kNo;
}

}  // namespace uffd
