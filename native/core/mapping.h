// Memory this package owns: page-aligned, zero-filled unless it is a file's, released with its last
// owner.
#ifndef UFFD_CORE_MAPPING_H_
#define UFFD_CORE_MAPPING_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/memory_file.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

uint64_t PageSize() noexcept;

enum class Backing { kAnonymous = 0, kMemfd = 1, kHugetlb = 2, kFile = 3 };
enum class HugePageAdvice { kNone = 0, kNever = 1, kAdvise = 2 };

struct MappingRequest {
  Backing backing = Backing::kAnonymous;
  uint64_t bytes = 0;       // whole pages of `page_size`
  uint64_t page_size = 0;   // of the backing
  bool map_shared = false;  // MAP_SHARED of a memfd, also one of huge pages; else MAP_PRIVATE
  HugePageAdvice advice = HugePageAdvice::kNone;
  std::string path;  // kFile only, as is the next
  uint64_t file_offset = 0;
  // Memory of somebody else that the pages are laid over (a SharedArrayBuffer of V8), or empty.
  // That owner unmaps the addresses, and with them whatever is mapped there.
  Range over;
};

class Mapping {
 public:
  // A forked child does not get the memory (it could sleep in a fault nobody serves) and KSM does
  // not merge it (merging drops write protection).
  static Result<std::shared_ptr<Mapping>> Create(const MappingRequest& request) noexcept;
  static Result<std::shared_ptr<Mapping>> Anonymous(uint64_t bytes) noexcept;
  // Another mapping of the same memory, at another address or laid over `over`. EINVAL when this
  // one is private.
  Result<std::shared_ptr<Mapping>> Alias(Range over) const noexcept;

  // One laid over `request.over` that is there, and of which only the pages are left. `file`: null
  // when nothing else shows it.
  static std::shared_ptr<Mapping> Again(const MappingRequest& request,
                                        std::shared_ptr<MemoryFile> file) noexcept;

  // Whether other mappings may show the same memory, and those that do.
  bool IsShared() const noexcept { return file_ != nullptr; }
  std::vector<std::shared_ptr<Mapping>> Aliases() const noexcept;
  // How many there were that are gone.
  uint64_t AliasesGone() const noexcept { return file_ == nullptr ? 0 : file_->MappingsGone(); }
  // Whether the same memory is mapped at another place, too: what is written there is not seen
  // here.
  bool IsAliased() const noexcept;

  // Of a mapping that IsOver: whether its owner has not unmapped it yet. Nobody finds it as an
  // alias any more when he has.
  bool IsStillThere() const noexcept;

  // Whether it ever was: then the memory may have pages that this mapping has never seen.
  bool WasAliased() const noexcept { return file_ != nullptr && file_->WasMappedTwice(); }

  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  // Of all mappings that exist now. Tests ask; the kernel's list cannot tell ours from V8's.
  static uint64_t LiveBytes() noexcept;

  uint8_t* Data() const noexcept { return data_; }
  uint64_t Bytes() const noexcept { return bytes_; }
  Backing PagesOf() const noexcept { return backing_; }
  // Of the pages that back it: 2 MiB and the like for hugetlb.
  uint64_t BackingPageSize() const noexcept { return page_size_; }
  // Laid over memory of somebody else, who keeps it as long as anybody can see it.
  bool IsOver() const noexcept { return !owns_addresses_; }
  Range AddressRange() const noexcept;

  // Gives whole pages back to the kernel. They then read as zero, through every mapping of them;
  // those of a file read as the file.
  Status Discard(Range range) const noexcept;
  // A mapping is made with one open region; more may enter until the last has left. The pages go
  // back when the last one closes; when it was forgotten instead, with the mapping.
  bool Enter() noexcept;
  void Leave(bool closing) noexcept;

 private:
  // Gives all of it back and keeps only the addresses, which are plain memory from here on: whoever
  // still writes there hits nobody.
  void Vacate() noexcept;
  Mapping(uint8_t* data, const MappingRequest& request, std::shared_ptr<MemoryFile> file) noexcept;
  static Result<std::shared_ptr<Mapping>> Map(const MappingRequest& request,
                                              std::shared_ptr<MemoryFile> file) noexcept;
  Status Advise(HugePageAdvice advice) const noexcept;

  uint8_t* data_;
  uint64_t bytes_;
  uint64_t page_size_;
  Backing backing_;
  bool owns_addresses_;
  std::shared_ptr<MemoryFile> file_;  // of a shared mapping only
  std::atomic<uint32_t> open_regions_{1};
};

// Gives whole pages of private anonymous memory back (madvise(2), MADV_DONTNEED).
Status Discard(Range range) noexcept;

// Makes every page of the range exist without writing it (madvise(2), MADV_POPULATE_READ; before
// Linux 5.14 by reading each).
Status Populate(Range range, uint64_t page_size) noexcept;

// The same for pages that will be written (MADV_POPULATE_WRITE). EINVAL before Linux 5.14.
Status MakeExist(Range range) noexcept;

// Takes the range out of KSM's hands: merging pages drops their write protection (madvise(2),
// MADV_UNMERGEABLE). A process under PR_SET_MEMORY_MERGE has all its memory in them.
void Unmerge(Range range) noexcept;
bool IsMemoryMerged() noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_MAPPING_H_
