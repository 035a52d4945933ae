#include "core/nonzero_pages.h"

#include <algorithm>

#include "core/compare.h"
#include "core/mapping.h"
#include "core/populated_pages.h"

namespace uffd {
namespace {

bool HoldsAny(Range page) noexcept {
  return !IsZero(reinterpret_cast<const uint8_t*>(page.start), page.Length());
}

}  // namespace

RangeSet NonZeroPages(Range bytes, uint64_t page_size) noexcept {
  RangeSet found;
  for (uint64_t at = bytes.start; at < bytes.end; at += page_size) {
    const Range page{at, std::min(at + page_size, bytes.end)};
    if (HoldsAny(page)) found.Add(page);
  }
  return found;
}

RangeSet NonZeroPagesThatExist(Range memory, uint64_t backing) noexcept {
  const uint64_t page_size = PageSize();
  // Whoever asks does not say whether there are other mappings: so there may be.
  PopulatedPages pages = PopulatedPages::Of(memory, backing, true);
  RangeSet found;
  constexpr uint64_t kBatch = PopulatedPages::kBatch;
  for (uint64_t start = memory.start; start < memory.end; start += kBatch * page_size) {
    const uint64_t count = std::min(kBatch, (memory.end - start + page_size - 1) / page_size);
    pages.Load(start, count);
    for (size_t i = 0; i < count; i++) {
      const uint64_t at = start + i * page_size;
      const Range page{at, std::min(at + page_size, memory.end)};
      if (pages.Has(i) && HoldsAny(page)) found.Add(page);
    }
  }
  return found;
}

}  // namespace uffd
