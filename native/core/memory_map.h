// What the kernel has mapped where: /proc/self/maps.
#ifndef UFFD_CORE_MEMORY_MAP_H_
#define UFFD_CORE_MEMORY_MAP_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/file_descriptor.h"
#include "core/range.h"

namespace uffd {

struct MapEntry {
  Range range;
  bool is_private = false;
  uint64_t device = 0;
  uint64_t inode = 0;  // 0: no file
};

// Reads the mappings of this process, ascending. Allocates nothing.
class MapReader {
 public:
  MapReader() noexcept;
  // False after the last one, and when they cannot be read.
  bool Next(MapEntry* entry) noexcept;
  bool Failed() const noexcept { return failed_; }

 private:
  // Makes what begins at `begin_` longer.
  bool ReadMore() noexcept;

  FileDescriptor file_;
  char buffer_[4096];
  size_t begin_ = 0;  // of the line that is next
  size_t end_ = 0;    // of what was read
  bool in_name_ = false;
  bool failed_ = false;
};

// Calls `visit` with what of each mapping lies in `range`, ascending.
template <typename Visit>
void ForEachMapping(Range range, Visit visit) noexcept {
  MapReader maps;
  MapEntry entry;
  while (maps.Next(&entry) && entry.range.start < range.end) {
    const Range part = entry.range.Intersect(range);
    if (!part.Empty()) visit(part);
  }
}

// Of fstat(2).
struct FileIdentity {
  uint64_t device;
  uint64_t inode;
};

// Where the bytes of a page are that this process has never touched.
enum class MemoryKind {
  kPrivateAnonymous,  // nowhere, it is zero: the page tables alone say what the memory holds
  kSharedMemory,      // with the memfd behind it, if that has the page; else it is zero
  kUnknown,           // on a disk, perhaps
};
// Of all of `range`; kUnknown when it is of several kinds.
MemoryKind KindOf(Range range) noexcept;
// The file that all of `range` shows; none when there is none, or that cannot be found out.
std::optional<FileIdentity> FileAt(Range range) noexcept;
// Whether all of `range` shows this file. True when that cannot be found out.
bool ShowsFile(Range range, uint64_t device, uint64_t inode) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_MEMORY_MAP_H_
