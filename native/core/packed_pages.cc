#include "core/packed_pages.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "core/mapping.h"

namespace uffd {
namespace {

constexpr uint64_t kBase = 128;

inline char* Put(uint64_t number, char* to) noexcept {
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
  MakeRoom(Digits(lead) + ranges.size() * 2 * Digits(2 * (whole.Length() >> shift)));
  char* to = Put(lead, bytes_.get());
  uint64_t done = whole.start;
  for (const Range& range : ranges) {
    // A part of a page stands for the whole one.
    const Range rounded = range.RoundOutward(unit);
    const uint64_t start = std::max(rounded.start, done);
    const uint64_t end = std::min(rounded.end, whole.end);
    if (end <= start) continue;
    const uint64_t between = (start - done) >> shift;
    const uint64_t count = (end - start) >> shift;
    done = end;
    if (count > 1) {
      to = Put(2 * between + 1, to);
      to = Put(count, to);
    } else {
      to = Put(2 * between, to);
    }
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
