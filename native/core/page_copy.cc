#include "core/page_copy.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "core/mapping.h"

namespace uffd {
namespace {

using Clock = std::chrono::steady_clock;

// Fewer pages say little about how long one takes.
constexpr uint64_t kWorthATime = 16;

#ifdef __SSE2__

constexpr bool kHasTwoWays = true;

void CopyPastCaches(const PageCopy& run) noexcept {
  constexpr uint64_t kAtOnce = 4;  // a line of the cache
  auto* const target = reinterpret_cast<__m128i*>(run.to);
  const auto* const source = reinterpret_cast<const __m128i*>(run.from);
  for (uint64_t i = 0; i < run.bytes / sizeof(__m128i); i += kAtOnce) {
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
}

#else

constexpr bool kHasTwoWays = false;

void CopyPastCaches(const PageCopy& run) noexcept { std::memcpy(run.to, run.from, run.bytes); }

#endif

void CopyEach(const PageCopy* runs, size_t count, bool past_caches) noexcept {
  for (size_t i = 0; i < count; i++) {
    if (past_caches) {
      CopyPastCaches(runs[i]);
    } else {
      std::memcpy(runs[i].to, runs[i].from, runs[i].bytes);
    }
  }
}

// The mean time that a byte took lately, in each way. Of two threads that note one at once, one may
// be lost.
class Times {
 public:
  bool IsQuickerPastCaches() const noexcept { return past_ <= through_; }
  // Now and then the other way, which may have become the quicker one.
  bool NextIsPastCaches() noexcept { return IsQuickerPastCaches() != (turn_++ % kTries == 0); }
  void Note(bool past_caches, float each) noexcept {
    std::atomic<float>& mean = past_caches ? past_ : through_;
    const float before = mean;
    if (before == 0) {
      mean = each;
    } else if (each < before) {
      mean = (before + each) / 2;
    } else {
      // Page faults, or a processor that was lost: little of what it took, and soon forgotten.
      mean = before + (std::min(each, 2 * before) - before) / kRemembers;
    }
  }

 private:
  static constexpr unsigned kTries = 32;
  static constexpr float kRemembers = 8;

  std::atomic<float> past_{0};
  std::atomic<float> through_{0};
  std::atomic<unsigned> turn_{0};
};

}  // namespace

void CopyPages(const PageCopy* runs, size_t count) noexcept {
  static Times times;
  uint64_t bytes = 0;
  for (size_t i = 0; i < count; i++) bytes += runs[i].bytes;
  if (!kHasTwoWays || bytes < kWorthATime * PageSize()) {
    CopyEach(runs, count, times.IsQuickerPastCaches());
    return;
  }
  const bool past_caches = times.NextIsPastCaches();
  const auto begun = Clock::now();
  CopyEach(runs, count, past_caches);
  const std::chrono::duration<float> took = Clock::now() - begun;
  times.Note(past_caches, took.count() / static_cast<float>(bytes));
}

}  // namespace uffd
