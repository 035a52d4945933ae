// The pages of a chain of snapshot files (docs/snapshot-format.md), read natively. Which file has
// which page was found and checked before; every page is checked against its digest when it is
// read.
#ifndef UFFD_CORE_SNAPSHOT_PAGES_H_
#define UFFD_CORE_SNAPSHOT_PAGES_H_

#include <cstdint>
#include <vector>

#include "core/file_descriptor.h"
#include "core/result.h"

namespace uffd {

// Never changes. All of it may be called from a signal handler.
class SnapshotPages {
 public:
  struct File {
    FileDescriptor fd;
    uint64_t pages_at = 0;    // where its first page is, in bytes
    uint64_t digests_at = 0;  // and the digest of that
  };
  // `count` pages of a memory from `first` on, one behind the other in a file from its `index`th
  // page on.
  struct Run {
    uint64_t first = 0;
    uint64_t count = 0;
    uint64_t file = 0;
    uint64_t index = 0;
  };

  // A run of each memory, ascending and disjoint: pages in none of them are zeros.
  SnapshotPages(std::vector<File> files, std::vector<std::vector<Run>> memories,
                uint64_t page_size) noexcept
      : files_(std::move(files)), memories_(std::move(memories)), page_size_(page_size) {}

  uint64_t PageBytes() const noexcept { return page_size_; }
  const std::vector<Run>& Runs(size_t memory) const noexcept { return memories_[memory]; }
  // Whether any of `count` pages from `first` on is in a file.
  bool HasAny(size_t memory, uint64_t first, uint64_t count) const noexcept;
  // `count` pages from `first` on, zeros where no file has them. EBADMSG: a page is not what was
  // saved. ENODATA: the file is shorter than it was. May wait for a disk.
  Status Read(size_t memory, uint64_t first, uint64_t count, uint8_t* to) const noexcept;

 private:
  // The first run that ends behind the page.
  size_t RunAt(const std::vector<Run>& runs, uint64_t page) const noexcept;
  Status ReadChecked(const File& file, uint64_t index, uint64_t count, uint8_t* to) const noexcept;

  const std::vector<File> files_;
  const std::vector<std::vector<Run>> memories_;
  const uint64_t page_size_;
};

}  // namespace uffd

#endif  // UFFD_CORE_SNAPSHOT_PAGES_H_
