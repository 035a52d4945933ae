#include "core/mapping.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace uffd {
namespace {

std::atomic<uint64_t> g_live_bytes{0};

}  // namespace

uint64_t PageSize() noexcept {
  static const auto size = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return size;
}

Result<std::shared_ptr<Mapping>> Mapping::Anonymous(uint64_t bytes) noexcept {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return Failure{errno, "mmap"};
  std::shared_ptr<Mapping> mapping(new Mapping(static_cast<uint8_t*>(data), bytes));
  if (madvise(data, bytes, MADV_DONTFORK) != 0) return Failure{errno, "madvise(MADV_DONTFORK)"};
  // EINVAL means a kernel built without KSM, where nothing is ever merged.
  if (madvise(data, bytes, MADV_UNMERGEABLE) != 0 && errno != EINVAL) {
    return Failure{errno, "madvise(MADV_UNMERGEABLE)"};
  }
  return mapping;
}

Mapping::Mapping(uint8_t* data, uint64_t bytes) noexcept : data_(data), bytes_(bytes) {
  g_live_bytes += bytes_;
}

Mapping::~Mapping() {
  munmap(data_, bytes_);
  g_live_bytes -= bytes_;
}

uint64_t Mapping::LiveBytes() noexcept { return g_live_bytes.load(); }

Range Mapping::AddressRange() const noexcept {
  const auto start = reinterpret_cast<uint64_t>(data_);
  return {start, start + bytes_};
}

Status Discard(Range range) noexcept {
  if (madvise(reinterpret_cast<void*>(range.start), range.Length(), MADV_DONTNEED) != 0) {
    return Failure{errno, "madvise(MADV_DONTNEED)"};
  }
  return Done{};
}

void Unmerge(Range range) noexcept {
  // Fails on a kernel without KSM and on memory that is never merged: all is well then.
  static_cast<void>(
      madvise(reinterpret_cast<void*>(range.start), range.Length(), MADV_UNMERGEABLE));
}

}  // namespace uffd
