#include "core/parallel_arming.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <memory>
#include <mutex>
#include <utility>

#include "core/helper.h"
#include "core/mapping.h"
#include "core/native_thread.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

using Clock = std::chrono::steady_clock;

// Each part costs a flush of the TLBs, which interrupts every processor that runs this process; and
// for the last one the other thread is waited for.
constexpr uint64_t kLeastParts = 16;
constexpr uint64_t kLargestPart = uint64_t{64} << 20;
// A few times what a thread costs.
constexpr std::chrono::microseconds kWorthAThread(500);

uint64_t PartBytes(Range pages, uint64_t page_size) noexcept {
  const uint64_t part = std::min(std::bit_floor(pages.Length() / kLeastParts), kLargestPart);
  // What one page of page tables maps, as a huge page does: a part that ends within one splits it.
  const uint64_t table_span = PageSize() / sizeof(uint64_t) * PageSize();
  return std::max({part, table_span, page_size});
}

class Arming final : public Helper::Work {
 public:
  Arming(Range pages, uint64_t part_bytes, std::function<Status(Range)> arm) noexcept
      : end_(pages.end), part_bytes_(part_bytes), arm_(std::move(arm)), next_(pages.start) {}

  bool DoPart() noexcept override { return Do(part_bytes_); }
  void DoRest() noexcept { static_cast<void>(Do(Left())); }

  uint64_t Left() const noexcept { return end_ - next_; }
  // When nobody is at a part.
  const Status& Outcome() const noexcept { return outcome_; }

 private:
  // About so many bytes: all parts but the last end where a page of page tables does.
  bool Do(uint64_t bytes) noexcept {
    const Range part = Take(bytes);
    if (part.Empty()) return false;
    const Status armed = arm_(part);
    if (!armed) Fail(armed);
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
  const std::function<Status(Range)> arm_;
  std::atomic<uint64_t> next_;
  std::mutex outcome_mutex_;
  Status outcome_ = Done{};
};

}  // namespace

Status ArmInParallel(Range pages, uint64_t page_size, bool was_idle,
                     std::function<Status(Range)> arm) noexcept {
  const auto arming = std::make_shared<Arming>(pages, PartBytes(pages, page_size), std::move(arm));
  // How long the rest takes depends on how large its pages are, and nobody tells.
  const auto begun = Clock::now();
  arming->DoPart();
  const uint64_t left = arming->Left();
  const auto rest = (Clock::now() - begun) * static_cast<double>(left) /
                    static_cast<double>(pages.Length() - left);
  const bool is_long = rest > kWorthAThread || (left > 0 && UFFD_HELPS_ALWAYS());
  Helper helper;
  if (is_long && (was_idle || HasIdleProcessor()) && helper.Start("uffd-arm", arming)) {
    UFFD_BARRIER("arming with a helper", nullptr);
    while (arming->DoPart()) {
    }
    helper.End();
  } else {
    arming->DoRest();
  }
  return arming->Outcome();
}

}  // namespace uffd
