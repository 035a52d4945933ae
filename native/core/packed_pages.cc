#include "core/packed_pages.h"

#include <bit>
#include <vector>

#include "core/mapping.h"

namespace uffd {
namespace {

constexpr uint64_t kBase = 128;

char* Put(uint64_t number, char* to) noexcept {
  for (; number >= kBase; number /= kBase) *to++ = static_cast<char>(number % kBase + kBase);
  *to++ = static_cast<char>(number);
  return to;
}

size_t Digits(uint64_t number) noexcept {
  size_t digits = 1;
  while ((number /= kBase) > 0) digits++;
  return digits;
}

}  // namespace

void PackedPages::Assign(RangeSet* pages, Range memory, uint64_t page_size) {
  const std::vector<Range>& ranges = pages->Ranges();
  const uint64_t lead = memory.start % page_size;
  Range whole = memory.RoundOutward(page_size);
  // No byte lies in a page, wherever there are none.
  if (memory.Empty()) whole.end = whole.start;
  const uint64_t unit = PageSize();
  const int shift = std::countr_zero(unit);
  MakeRoom(Digits(lead) + ranges.size() * 2 * Digits(whole.Length() >> shift));
  char* to = Put(lead, bytes_.get());
  uint64_t done = whole.start;
  for (const Range& range : ranges) {
    // A part of a page stands for the whole one.
    const Range part = range.RoundOutward(unit).Intersect({done, whole.end});
    if (part.Empty()) continue;
    to = Put((part.start - done) >> shift, to);
    to = Put(part.Length() >> shift, to);
    done = part.end;
  }
  size_ = static_cast<size_t>(to - bytes_.get());
}

void PackedPages::MakeRoom(size_t bytes) {
  const bool is_too_much = room_ > kKeptRoom && bytes <= kKeptRoom;
  if (bytes <= room_ && !is_too_much) return;
  bytes_ = std::make_unique_for_overwrite<char[]>(bytes);
  room_ = bytes;
}

}  // namespace uffd
