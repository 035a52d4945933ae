#include "core/page_digests.h"

namespace uffd {

std::optional<uint64_t> PageDigests::Claim() noexcept {
  const uint64_t page = next_.fetch_add(1, std::memory_order_relaxed);
  if (page >= count_) return std::nullopt;
  return page;
}

void PageDigests::Make(uint64_t page) noexcept {
  const uint64_t start = pages_.start + page * page_size_;
  to_[page] = Sha256Of(reinterpret_cast<const uint8_t*>(start), page_size_);
  made_.fetch_add(1, std::memory_order_release);
}

}  // namespace uffd
