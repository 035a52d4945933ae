#include "core/parallel_parts.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <mutex>
#include <utility>

#include "core/helper.h"
#include "core/mapping.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

using Clock = std::chrono::steady_clock;

// Each part that arms costs a flush of the TLBs, which interrupts every processor that runs this
// process; and for the last one the other thread is waited for.
constexpr uint64_t kLeastParts = 16;
constexpr uint64_t kLargestPart = uint64_t{64} << 20;
// A few times what a helper costs.
constexpr std::chrono::microseconds kWorthAHelper(200);

uint64_t PartBytes(Range pages, uint64_t page_size) noexcept {
  const uint64_t part = std::min(std::bit_floor(pages.Length() / kLeastParts), kLargestPart);
  // What one page of page tables maps, as a huge page does: a part that ends within one splits it.
  const uint64_t table_span = PageSize() / sizeof(uint64_t) * PageSize();
  return std::max({part, table_span, page_size});
}

class Parts final : public Helper::Work {
 public:
  Parts(Range pages, uint64_t part_bytes, std::function<Status(Range)> call) noexcept
      : end_(pages.end), part_bytes_(part_bytes), call_(std::move(call)), next_(pages.start) {}

  bool DoPart() noexcept override { return Do(part_bytes_); }
  // Does one, and tells how many seconds a byte of it took.
  double TimeOfOne() noexcept {
    const uint64_t before = Left();
    const auto begun = Clock::now();
    DoPart();
    const std::chrono::duration<double> took = Clock::now() - begun;
    return took.count() / static_cast<double>(std::max<uint64_t>(before - Left(), 1));
  }
  void DoRest() noexcept { static_cast<void>(Do(Left())); }

  uint64_t Left() const noexcept { return end_ - next_; }
  // When nobody is at a part.
  const Status& Outcome() const noexcept { return outcome_; }

 private:
  // About so many bytes: all parts but the last end where a page of page tables does.
  bool Do(uint64_t bytes) noexcept {
    const Range part = Take(bytes);
    if (part.Empty()) return false;
    const Status done = call_(part);
    if (!done) Fail(done);
    return true;
  }

  // Without a lock: who loses its processor here keeps nobody waiting.
  Range Take(uint64_t bytes) noexcept {
    uint64_t start = next_;
    uint64_t end = 0;
    do {
      const uint64_t edge = (start + bytes + part_bytes_ / 2) & ~(part_bytes_ - 1);
      end = bytes < end_ - start ? std::min(edge, end_) : end_;
    } while (!next_.compare_exchange_weak(start, end));
    return {start, end};
  }

  void Fail(const Status& why) noexcept {
    next_ = end_;
    const std::lock_guard<std::mutex> lock(outcome_mutex_);
    if (outcome_) outcome_ = why;
  }

  const uint64_t end_;
  const uint64_t part_bytes_;
  const std::function<Status(Range)> call_;
  std::atomic<uint64_t> next_;
  std::mutex outcome_mutex_;
  Status outcome_ = Done{};
};

}  // namespace

Status CallInParallel(Range pages, uint64_t page_size, bool was_idle,
                      std::function<Status(Range)> call) noexcept {
  Parts parts(pages, PartBytes(pages, page_size), std::move(call));
  // How long the rest takes depends on how large its pages are, and nobody tells. The quicker of
  // two parts does: one of huge pages takes a few microseconds, and as many again when nothing is
  // in the caches, another processor was asleep or something came between.
  const double each_byte = std::min(parts.TimeOfOne(), parts.TimeOfOne());
  const uint64_t left = parts.Left();
  const std::chrono::duration<double> rest(each_byte * static_cast<double>(left));
  const bool is_long = rest > kWorthAHelper || (left > 0 && UFFD_HELPS_ALWAYS());
  Helper helper;
  if (is_long && (was_idle || Helper::HasProcessor()) && helper.Start(&parts)) {
    UFFD_BARRIER("parts with a helper", nullptr);
    while (parts.DoPart()) {
    }
    helper.End();
  } else {
    parts.DoRest();
  }
  return parts.Outcome();
}

}  // namespace uffd
