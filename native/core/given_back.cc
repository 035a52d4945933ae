#include "core/given_back.h"

#include <cstring>
#include <utility>

namespace uffd {

Result<std::shared_ptr<GivenBack>> GivenBack::Create(uint64_t bytes, uint64_t page_size) noexcept {
  const uint64_t pages = bytes / page_size;
  const uint64_t size = Range{0, pages / 8 + 1}.RoundOutward(PageSize()).Length();
  Result<std::shared_ptr<Mapping>> bits = Mapping::Anonymous(size);
  if (!bits) return bits.Error();
  return std::shared_ptr<GivenBack>(new GivenBack(std::move(bits.Value()), page_size));
}

void GivenBack::Add(uint64_t offset, uint64_t length) noexcept {
  uint8_t* const bits = bits_->Data();
  uint64_t page = offset / page_size_;
  const uint64_t end = page + length / page_size_;
  for (; page < end && page % 8 != 0; page++) bits[page / 8] |= 1U << (page % 8);
  const uint64_t whole = (end - page) / 8;
  std::memset(bits + page / 8, 0xff, whole);
  for (page += whole * 8; page < end; page++) bits[page / 8] |= 1U << (page % 8);
}

bool GivenBack::Has(uint64_t offset) const noexcept {
  const uint64_t page = offset / page_size_;
  return (bits_->Data()[page / 8] >> (page % 8) & 1) != 0;
}

}  // namespace uffd
