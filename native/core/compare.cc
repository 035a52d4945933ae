#include "core/compare.h"

#include <algorithm>
#include <cstring>

namespace uffd {
namespace {

// Long enough for memcmp to be fast, short enough that going through one byte by byte is cheap.
constexpr uint64_t kBlock = 64;

}  // namespace

bool IsZero(const uint8_t* bytes, uint64_t length) noexcept {
  return length == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, length - 1) == 0);
}

void AddDifferences(const uint8_t* live, const uint8_t* copy, uint64_t copy_length, Range offsets,
                    RangeSet* different) noexcept {
  const uint64_t both = std::min(offsets.end, copy_length);
  for (uint64_t at = offsets.start; at < both;) {
    const uint64_t end = std::min(at + kBlock, both);
    if (std::memcmp(live + at, copy + at, end - at) == 0) {
      at = end;
      continue;
    }
    for (; at < end; at++) {
      if (live[at] != copy[at]) different->Add({at, at + 1});
    }
  }
  different->Add({std::max(offsets.start, copy_length), offsets.end});
}

}  // namespace uffd
