#include "core/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bit>
#include <cerrno>

#include "core/kernel_abi.h"
#include "core/memory_map.h"

namespace uffd {
namespace {

constexpr const char* kCreate = "memfd_create";
constexpr const char* kCreateHuge = "memfd_create(MFD_HUGETLB)";
constexpr const char* kName = "userfaultfd-region";

Result<FileDescriptor> Create(unsigned int flags, const char* call) noexcept {
  constexpr unsigned int kAlways = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  // Kernels before 6.3 do not know the flag; later ones may be set up to ask for it.
  int fd = memfd_create(kName, flags | kAlways | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(kName, flags | kAlways);
  if (fd < 0) return Failure{errno, call};
  return FileDescriptor(fd);
}

Result<std::shared_ptr<MemoryFile>> OfSize(uint64_t bytes,
                                           Result<FileDescriptor> created) noexcept {
  if (!created) return created.Error();
  const int fd = created.Value().Get();
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) return Failure{errno, "ftruncate"};
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Failure{errno, "fcntl(F_ADD_SEALS)"};
  }
  return std::make_shared<MemoryFile>(std::move(created.Value()));
}

}  // namespace

Result<std::shared_ptr<MemoryFile>> MemoryFile::Memfd(uint64_t bytes) noexcept {
  return OfSize(bytes, Create(0, kCreate));
}

Result<std::shared_ptr<MemoryFile>> MemoryFile::Hugetlb(uint64_t bytes,
                                                        uint64_t page_size) noexcept {
  const auto log2 = static_cast<unsigned int>(std::countr_zero(page_size));
  return OfSize(bytes, Create(MFD_HUGETLB | (log2 << MAP_HUGE_SHIFT), kCreateHuge));
}

Result<std::shared_ptr<MemoryFile>> MemoryFile::OpenRegular(const std::string& path) noexcept {
  // O_NONBLOCK: opening a FIFO would wait for its writer.
  FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return Failure{errno, "open"};
  struct stat status {};
  if (fstat(fd.Get(), &status) != 0) return Failure{errno, "fstat"};
  if (S_ISDIR(status.st_mode)) return Failure{EISDIR, "open"};
  if (!S_ISREG(status.st_mode)) return Failure{ENODEV, "open"};
  return std::make_shared<MemoryFile>(std::move(fd));
}

Result<uint64_t> MemoryFile::Bytes() const noexcept {
  struct stat status {};
  if (fstat(fd_.Get(), &status) != 0) return Failure{errno, "fstat"};
  return static_cast<uint64_t>(status.st_size);
}

bool MemoryFile::IsShownAt(Range addresses) const noexcept {
  struct stat status {};
  if (fstat(fd_.Get(), &status) != 0) return true;
  return ShowsFile(addresses, status.st_dev, status.st_ino);
}

void MemoryFile::AddMapping(const std::shared_ptr<Mapping>& mapping) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  mappings_.push_back({mapping.get(), mapping});
}

void MemoryFile::RemoveMapping(const Mapping* mapping) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  mappings_gone_ +=
      std::erase_if(mappings_, [mapping](const Entry& entry) { return entry.key == mapping; });
}

uint64_t MemoryFile::MappingsGone() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return mappings_gone_;
}

std::vector<std::shared_ptr<Mapping>> MemoryFile::Mappings() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::shared_ptr<Mapping>> live;
  // Nobody has the others any more, who may have written through them until then.
  mappings_gone_ += std::erase_if(mappings_, [&live](const Entry& entry) {
    std::shared_ptr<Mapping> mapping = entry.mapping.lock();
    const bool gone = mapping == nullptr;
    if (!gone) live.push_back(std::move(mapping));
    return gone;
  });
  return live;
}

Result<uint64_t> DefaultHugetlbPageSize() noexcept {
  const Result<FileDescriptor> created = Create(MFD_HUGETLB, kCreateHuge);
  if (!created) return created.Error();
  struct stat status {};
  if (fstat(created.Value().Get(), &status) != 0) return Failure{errno, "fstat"};
  return static_cast<uint64_t>(status.st_blksize);
}

}  // namespace uffd
