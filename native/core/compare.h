// Comparing bytes that other threads may write meanwhile: a byte is as it was when it was read.
#ifndef UFFD_CORE_COMPARE_H_
#define UFFD_CORE_COMPARE_H_

#include <cstdint>

#include "core/range.h"

namespace uffd {

bool IsZero(const uint8_t* bytes, uint64_t length) noexcept;

// Adds the offsets from `from` to `to` where `live` and `copy` differ. What lies behind the copy's
// `copy_length` bytes differs.
void AddDifferences(const uint8_t* live, const uint8_t* copy, uint64_t copy_length, Range offsets,
                    RangeSet* different) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_COMPARE_H_
