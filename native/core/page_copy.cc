#include "core/page_copy.h"

#ifdef __SSE2__
#include <emmintrin.h>
#else
#include <cstring>
#endif

namespace uffd {

void CopyPastCaches(uint8_t* to, const uint8_t* from, uint64_t length) noexcept {
#ifdef __SSE2__
  constexpr uint64_t kAtOnce = 4;  // a line of the cache
  auto* const target = reinterpret_cast<__m128i*>(to);
  const auto* const source = reinterpret_cast<const __m128i*>(from);
  for (uint64_t i = 0; i < length / sizeof(__m128i); i += kAtOnce) {
    const __m128i a = _mm_load_si128(source + i);
    const __m128i b = _mm_load_si128(source + i + 1);
    const __m128i c = _mm_load_si128(source + i + 2);
    const __m128i d = _mm_load_si128(source + i + 3);
    _mm_stream_si128(target + i, a);
    _mm_stream_si128(target + i + 1, b);
    _mm_stream_si128(target + i + 2, c);
    _mm_stream_si128(target + i + 3, d);
  }
  // What this thread stores from here on is seen after these, as ever.
  _mm_sfence();
#else
  std::memcpy(to, from, length);
#endif
}

}  // namespace uffd
