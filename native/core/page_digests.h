// A digest for each page, made by as many threads as take part.
#ifndef UFFD_CORE_PAGE_DIGESTS_H_
#define UFFD_CORE_PAGE_DIGESTS_H_

#include <atomic>
#include <cstdint>
#include <optional>

#include "core/range.h"
#include "core/sha256.h"

namespace uffd {

class PageDigests {
 public:
  // Of the whole pages of `pages`, one after another to `to`.
  PageDigests(Range pages, uint64_t page_size, Sha256Digest* to) noexcept
      : pages_(pages), page_size_(page_size), count_(pages.Length() / page_size), to_(to) {}

  uint64_t Count() const noexcept { return count_; }
  // A page that is now this thread's to make; nothing when all are somebody's. Who comes after that
  // touches no memory, which may be gone by then.
  std::optional<uint64_t> Claim() noexcept;
  void Make(uint64_t page) noexcept;
  // All are made, and seen by this thread.
  bool AreMade() const noexcept { return made_.load(std::memory_order_acquire) == count_; }

 private:
  const Range pages_;
  const uint64_t page_size_;
  const uint64_t count_;
  Sha256Digest* const to_;
  std::atomic<uint64_t> next_{0};
  std::atomic<uint64_t> made_{0};
};

}  // namespace uffd

#endif  // UFFD_CORE_PAGE_DIGESTS_H_
