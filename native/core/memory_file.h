// The file behind a mapping: a memfd, one of huge pages, or a file of the disk.
#ifndef UFFD_CORE_MEMORY_FILE_H_
#define UFFD_CORE_MEMORY_FILE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/file_descriptor.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

class Mapping;

class MemoryFile {
 public:
  // Zero-filled and of this size for good: sealed, so that nobody who finds the descriptor in
  // /proc/self/fd can cut pages off under a mapping (a touch would be SIGBUS).
  static Result<std::shared_ptr<MemoryFile>> Memfd(uint64_t bytes) noexcept;
  // The same of hugetlb pages of `page_size`. Nothing is reserved before it is mapped.
  static Result<std::shared_ptr<MemoryFile>> Hugetlb(uint64_t bytes, uint64_t page_size) noexcept;
  // A regular file, to be read.
  static Result<std::shared_ptr<MemoryFile>> OpenRegular(const std::string& path) noexcept;

  explicit MemoryFile(FileDescriptor fd) noexcept : fd_(std::move(fd)) {}

  int Descriptor() const noexcept { return fd_.Get(); }
  Result<uint64_t> Bytes() const noexcept;
  // Whether these addresses show it, and nothing else.
  bool IsShownAt(Range addresses) const noexcept;
  void MarkMappedTwice() noexcept { mapped_twice_ = true; }
  bool WasMappedTwice() const noexcept { return mapped_twice_.load(); }

  // The shared mappings of it in this process that show its bytes.
  void AddMapping(const std::shared_ptr<Mapping>& mapping) noexcept;
  void RemoveMapping(const Mapping* mapping) noexcept;
  std::vector<std::shared_ptr<Mapping>> Mappings() noexcept;
  // How many there were that are gone: what was written through them nobody can look up any more.
  uint64_t MappingsGone() noexcept;

 private:
  FileDescriptor fd_;
  std::atomic<bool> mapped_twice_{false};
  std::mutex mutex_;
  struct Entry {
    const Mapping* key;
    std::weak_ptr<Mapping> mapping;
  };
  std::vector<Entry> mappings_;
  uint64_t mappings_gone_ = 0;
};

// In bytes, as the kernel says. ENOSYS or ENODEV where there are no such pages.
Result<uint64_t> DefaultHugetlbPageSize() noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_MEMORY_FILE_H_
