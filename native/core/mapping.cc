#include "core/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdlib>

#include "core/kernel_abi.h"
#include "core/mapping_table.h"

namespace uffd {
namespace {

std::atomic<uint64_t> g_live_bytes{0};

constexpr int kReadWrite = PROT_READ | PROT_WRITE;

// Of transparent huge pages; 0 where the kernel has none.
uint64_t TransparentPageSize() noexcept {
  const FileDescriptor fd(
      open("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", O_RDONLY | O_CLOEXEC));
  char digits[32] = {};
  if (!fd || read(fd.Get(), digits, sizeof(digits) - 1) <= 0) return 0;
  const uint64_t size = strtoull(digits, nullptr, 10);
  return std::has_single_bit(size) ? size : 0;
}

int MapFlags(const MappingRequest& request, bool has_file) noexcept {
  int flags = request.map_shared ? MAP_SHARED : MAP_PRIVATE;
  if (!has_file) flags |= MAP_ANONYMOUS;
  if (request.backing == Backing::kHugetlb) {
    // Without MAP_NORESERVE: too few huge pages is ENOMEM here, not SIGBUS at some later touch.
    if (!has_file) flags |= MAP_HUGETLB | (std::countr_zero(request.page_size) << MAP_HUGE_SHIFT);
    return flags;
  }
  return flags | MAP_NORESERVE;
}

const char* MapCall(Backing backing) noexcept {
  return backing == Backing::kHugetlb ? "mmap(MAP_HUGETLB)" : "mmap";
}

Range AlignUp(Range range, uint64_t alignment) noexcept {
  return {(range.start + alignment - 1) & ~(alignment - 1), range.end};
}

// Maps more than is needed and cuts off the ends.
Result<uint8_t*> AlignedAddresses(uint64_t bytes, uint64_t alignment) noexcept {
  const uint64_t length = bytes + alignment;
  void* wide = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (wide == MAP_FAILED) return Failure{errno, "mmap"};
  const auto start = reinterpret_cast<uint64_t>(wide);
  const uint64_t aligned = AlignUp({start, start + length}, alignment).start;
  const uint64_t end = aligned + bytes;
  if (aligned > start) munmap(wide, aligned - start);
  if (end < start + length) munmap(reinterpret_cast<void*>(end), start + length - end);
  return reinterpret_cast<uint8_t*>(aligned);
}

// Where the mapping must be; null when anywhere will do.
Result<uint8_t*> Place(const MappingRequest& request) noexcept {
  uint64_t alignment = request.backing == Backing::kHugetlb ? request.page_size : 0;
  // Transparent huge pages come only where a whole one fits.
  if (request.advice == HugePageAdvice::kAdvise) alignment = TransparentPageSize();
  if (!request.over.Empty()) {
    const Range over = AlignUp(request.over, alignment != 0 ? alignment : PageSize());
    if (over.Empty() || over.Length() < request.bytes) return Failure{ERANGE, "mmap"};
    return reinterpret_cast<uint8_t*>(over.start);
  }
  // The kernel itself aligns hugetlb.
  if (alignment == 0 || request.backing == Backing::kHugetlb) return nullptr;
  return AlignedAddresses(request.bytes, alignment);
}

// Plain memory over what is there now.
bool MapPlain(void* at, uint64_t bytes) noexcept {
  constexpr int kFlags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  return mmap(at, bytes, kReadWrite, kFlags, -1, 0) != MAP_FAILED;
}

// After a mmap that failed there. A kernel before 6.12 left a hole behind, which must not become
// somebody else's memory while its owner believes to have it.
void Unplace(uint8_t* at, const MappingRequest& request) noexcept {
  if (request.over.Empty()) {
    munmap(at, request.bytes);
  } else {
    static_cast<void>(MapPlain(at, request.bytes));
  }
}

Status Madvise(Range range, int advice, const char* call) noexcept {
  if (madvise(reinterpret_cast<void*>(range.start), range.Length(), advice) != 0) {
    return Failure{errno, call};
  }
  return Done{};
}

// EINVAL is a kernel that was built without it, where there is nothing to advise.
Status MadviseIfBuilt(Range range, int advice, const char* call) noexcept {
  Status done = Madvise(range, advice, call);
  if (!done && done.Error().error == EINVAL) return Done{};
  return done;
}

}  // namespace

uint64_t PageSize() noexcept {
  static const auto size = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return size;
}

Result<std::shared_ptr<Mapping>> Mapping::Create(const MappingRequest& request) noexcept {
  std::shared_ptr<MemoryFile> file;
  if (request.backing == Backing::kFile) {
    Result<std::shared_ptr<MemoryFile>> opened = MemoryFile::OpenRegular(request.path);
    if (!opened) return opened.Error();
    file = std::move(opened.Value());
    const Result<uint64_t> bytes = file->Bytes();
    if (!bytes) return bytes.Error();
    // A touch behind the last page of the file is SIGBUS.
    const Range pages = Range{request.file_offset, bytes.Value()}.RoundOutward(PageSize());
    if (pages.Empty() || request.bytes > pages.Length()) return Failure{ERANGE, "mmap"};
  } else if (request.backing == Backing::kMemfd) {
    Result<std::shared_ptr<MemoryFile>> created = MemoryFile::Memfd(request.bytes);
    if (!created) return created.Error();
    file = std::move(created.Value());
  } else if (request.backing == Backing::kHugetlb && request.map_shared) {
    Result<std::shared_ptr<MemoryFile>> created =
        MemoryFile::Hugetlb(request.bytes, request.page_size);
    if (!created) return created.Error();
    file = std::move(created.Value());
  }
  return Map(request, std::move(file));
}

Result<std::shared_ptr<Mapping>> Mapping::Anonymous(uint64_t bytes) noexcept {
  MappingRequest request;
  request.bytes = bytes;
  request.page_size = PageSize();
  return Create(request);
}

Result<std::shared_ptr<Mapping>> Mapping::Alias(Range over) const noexcept {
  if (file_ == nullptr) return Failure{EINVAL, "mmap"};
  file_->MarkMappedTwice();
  MappingRequest request;
  request.backing = backing_;
  request.bytes = bytes_;
  request.page_size = page_size_;
  request.map_shared = true;
  request.over = over;
  return Map(request, file_);
}

Result<std::shared_ptr<Mapping>> Mapping::Map(const MappingRequest& request,
                                              std::shared_ptr<MemoryFile> file) noexcept {
  const Result<uint8_t*> at = Place(request);
  if (!at) return at.Error();
  const int fixed = at.Value() != nullptr ? MAP_FIXED : 0;
  const int fd = file != nullptr ? file->Descriptor() : -1;
  void* data = mmap(at.Value(), request.bytes, kReadWrite, MapFlags(request, fd >= 0) | fixed, fd,
                    static_cast<off_t>(request.file_offset));
  if (data == MAP_FAILED) {
    const Failure failure{errno, MapCall(request.backing)};
    if (fixed != 0) Unplace(at.Value(), request);
    return failure;
  }
  // The pages of a private mapping are nobody else's: it needs no descriptor any more.
  if (!request.map_shared) file = nullptr;
  std::shared_ptr<Mapping> mapping(
      new Mapping(static_cast<uint8_t*>(data), request, std::move(file)));
  const Status advised = mapping->Advise(request.advice);
  if (!advised) return advised.Error();
  if (mapping->file_ != nullptr) mapping->file_->AddMapping(mapping);
  MappingTable::Get().Add(mapping, mapping->file_);
  return mapping;
}

std::shared_ptr<Mapping> Mapping::Again(const MappingRequest& request,
                                        std::shared_ptr<MemoryFile> file) noexcept {
  auto* const data = reinterpret_cast<uint8_t*>(request.over.start);
  std::shared_ptr<Mapping> mapping(new Mapping(data, request, std::move(file)));
  if (mapping->file_ != nullptr) mapping->file_->AddMapping(mapping);
  return mapping;
}

bool Mapping::IsAliased() const noexcept {
  if (file_ == nullptr) return false;
  return file_.use_count() > 1 || !MappingTable::Get().Forgotten(file_).empty();
}

std::vector<std::shared_ptr<Mapping>> Mapping::Aliases() const noexcept {
  std::vector<std::shared_ptr<Mapping>> all;
  if (file_ == nullptr) return all;
  // Held until they are in the list.
  const auto forgotten = MappingTable::Get().Forgotten(file_);
  all = file_->Mappings();
  std::erase_if(all, [this](const std::shared_ptr<Mapping>& each) { return each.get() == this; });
  return all;
}

bool Mapping::IsStillThere() const noexcept {
  if (owns_addresses_ || file_ == nullptr) return true;
  if (file_->IsShownAt(AddressRange())) return true;
  file_->RemoveMapping(this);
  return false;
}

Mapping::Mapping(uint8_t* data, const MappingRequest& request,
                 std::shared_ptr<MemoryFile> file) noexcept
    : data_(data),
      bytes_(request.bytes),
      page_size_(request.page_size),
      backing_(request.backing),
      owns_addresses_(request.over.Empty()),
      file_(std::move(file)) {
  if (owns_addresses_) g_live_bytes += bytes_;
}

Mapping::~Mapping() {
  MappingTable::Get().Remove(this);
  if (file_ != nullptr) file_->RemoveMapping(this);
  if (!owns_addresses_) return;
  munmap(data_, bytes_);
  g_live_bytes -= bytes_;
}

bool Mapping::Enter() noexcept {
  uint32_t open = open_regions_;
  while (open != 0 && !open_regions_.compare_exchange_weak(open, open + 1)) {
  }
  return open != 0;
}

void Mapping::Leave(bool closing) noexcept {
  if (--open_regions_ == 0 && closing && owns_addresses_) Vacate();
}

Status Mapping::Advise(HugePageAdvice advice) const noexcept {
  const Range range = AddressRange();
  const Status not_forked = Madvise(range, MADV_DONTFORK, "madvise(MADV_DONTFORK)");
  if (!not_forked) return not_forked;
  const Status unmerged = MadviseIfBuilt(range, MADV_UNMERGEABLE, "madvise(MADV_UNMERGEABLE)");
  if (!unmerged || advice == HugePageAdvice::kNone) return unmerged;
  return advice == HugePageAdvice::kAdvise
             ? MadviseIfBuilt(range, MADV_HUGEPAGE, "madvise(MADV_HUGEPAGE)")
             : MadviseIfBuilt(range, MADV_NOHUGEPAGE, "madvise(MADV_NOHUGEPAGE)");
}

uint64_t Mapping::LiveBytes() noexcept { return g_live_bytes.load(); }

Range Mapping::AddressRange() const noexcept {
  const auto start = reinterpret_cast<uint64_t>(data_);
  return {start, start + bytes_};
}

Status Mapping::Discard(Range range) const noexcept {
  if (file_ == nullptr) return uffd::Discard(range);
  // MADV_DONTNEED would only unmap the pages: the file keeps them, and what is in them.
  const Status removed = Madvise(range, MADV_REMOVE, "madvise(MADV_REMOVE)");
  if (!removed || backing_ != Backing::kHugetlb) return removed;
  // With the huge pages went their reservation; mapping them once more makes it again.
  void* again = mmap(nullptr, range.Length(), kReadWrite, MAP_SHARED, file_->Descriptor(),
                     static_cast<off_t>(range.start - AddressRange().start));
  if (again == MAP_FAILED) return Failure{errno, MapCall(backing_)};
  munmap(again, range.Length());
  return Done{};
}

void Mapping::Vacate() noexcept {
  if (file_ != nullptr) file_->RemoveMapping(this);
  if (backing_ != Backing::kAnonymous && MapPlain(data_, bytes_)) {
    file_ = nullptr;
    backing_ = Backing::kAnonymous;
    static_cast<void>(Advise(HugePageAdvice::kNone).Ok());
    return;
  }
  static_cast<void>(uffd::Discard(AddressRange()).Ok());
}

Status Discard(Range range) noexcept {
  return Madvise(range, MADV_DONTNEED, "madvise(MADV_DONTNEED)");
}

Status Populate(Range range, uint64_t page_size) noexcept {
  Status populated = Madvise(range, MADV_POPULATE_READ, "madvise(MADV_POPULATE_READ)");
  if (populated || populated.Error().error != EINVAL) return populated;
  for (uint64_t page = range.start; page < range.end; page += page_size) {
    static_cast<void>(*reinterpret_cast<const volatile uint8_t*>(page));
  }
  return Done{};
}

Status MakeExist(Range range) noexcept {
  return Madvise(range, MADV_POPULATE_WRITE, "madvise(MADV_POPULATE_WRITE)");
}

void Unmerge(Range range) noexcept {
  // Fails on a kernel without KSM and on memory that is never merged: all is well then.
  static_cast<void>(
      madvise(reinterpret_cast<void*>(range.start), range.Length(), MADV_UNMERGEABLE));
}

bool IsMemoryMerged() noexcept { return prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 1; }

}  // namespace uffd
