// Memory this package owns: page-aligned, zero-filled, released with its last owner.
#ifndef UFFD_CORE_MAPPING_H_
#define UFFD_CORE_MAPPING_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "core/range.h"
#include "core/result.h"

namespace uffd {

uint64_t PageSize() noexcept;

class Mapping {
 public:
  // Anonymous and private. A forked child does not get it (it could sleep in a fault nobody serves)
  // and KSM does not merge it (merging drops write protection).
  static Result<std::shared_ptr<Mapping>> Anonymous(uint64_t bytes) noexcept;

  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  // Of all mappings that exist now. Tests ask; the kernel's list cannot tell ours from V8's.
  static uint64_t LiveBytes() noexcept;

  // Somebody reads its pages whatever becomes of the region: they must not be given back.
  void Pin() noexcept { pins_++; }
  void Unpin() noexcept { pins_--; }
  bool Pinned() const noexcept { return pins_ > 0; }

  uint8_t* Data() const noexcept { return data_; }
  uint64_t Bytes() const noexcept { return bytes_; }
  Range AddressRange() const noexcept;

 private:
  Mapping(uint8_t* data, uint64_t bytes) noexcept;

  uint8_t* data_;
  uint64_t bytes_;
  std::atomic<uint32_t> pins_{0};
};

// Gives whole pages back to the kernel; anonymous memory then reads as zero (madvise(2),
// MADV_DONTNEED).
Status Discard(Range range) noexcept;

// Takes the range out of KSM's hands: merging pages drops their write protection (madvise(2),
// MADV_UNMERGEABLE). A process under PR_SET_MEMORY_MERGE has all its memory in them.
void Unmerge(Range range) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_MAPPING_H_
