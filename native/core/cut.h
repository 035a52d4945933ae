// The instant that all memories of a copy-on-write snapshot share, whether it still holds, and what
// capturing has cost so far. Everything here may be called from a signal handler.
#ifndef UFFD_CORE_CUT_H_
#define UFFD_CORE_CUT_H_

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>

namespace uffd {

class Cut {
 public:
  // Why a snapshot failed.
  static constexpr int kLost = ESTALE;         // pages were given back, unmapped or moved
  static constexpr int kLimit = EDQUOT;        // more bytes than it may keep
  static constexpr int kReleased = ETIMEDOUT;  // its faults were not served: the watchdog came

  struct Progress {
    uint64_t swept = 0;    // pages
    uint64_t faulted = 0;  // pages that a writer had captured first
    uint64_t bytes = 0;    // stored; pages of zeros are not
    uint64_t waits = 0;    // of writers, for a page or for the cut
    uint64_t waited_ns = 0;
    uint64_t longest_wait_ns = 0;
  };

  explicit Cut(uint64_t max_bytes) noexcept : max_bytes_(max_bytes) {}

  // No write is let through before all memories are armed: a write that comes after the instant
  // waits for it, and so does whatever depends on that write (test 64, B5).
  bool IsComplete() const noexcept { return complete_.load(std::memory_order_acquire); }
  void Complete() noexcept { complete_.store(true, std::memory_order_release); }

  // The first reason counts.
  void Fail(int error) noexcept {
    int none = 0;
    error_.compare_exchange_strong(none, error);
  }
  int Error() const noexcept { return error_.load(); }

  // Whether that much more may be stored; else the snapshot fails.
  bool TakeRoom(uint64_t bytes) noexcept {
    if (bytes_.fetch_add(bytes) + bytes <= max_bytes_) return true;
    bytes_ -= bytes;
    Fail(kLimit);
    return false;
  }
  void CountSwept() noexcept { swept_.fetch_add(1, std::memory_order_relaxed); }
  void CountFaulted() noexcept { faulted_.fetch_add(1, std::memory_order_relaxed); }
  void CountWait(std::chrono::nanoseconds waited) noexcept {
    const auto ns = static_cast<uint64_t>(waited.count());
    waits_.fetch_add(1, std::memory_order_relaxed);
    waited_ns_.fetch_add(ns, std::memory_order_relaxed);
    uint64_t longest = longest_ns_.load(std::memory_order_relaxed);
    while (longest < ns && !longest_ns_.compare_exchange_weak(longest, ns)) {
    }
  }
  Progress Read() const noexcept {
    return {swept_.load(), faulted_.load(),   bytes_.load(),
            waits_.load(), waited_ns_.load(), longest_ns_.load()};
  }

 private:
  const uint64_t max_bytes_;
  std::atomic<bool> complete_{false};
  std::atomic<int> error_{0};
  std::atomic<uint64_t> swept_{0};
  std::atomic<uint64_t> faulted_{0};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<uint64_t> waits_{0};
  std::atomic<uint64_t> waited_ns_{0};
  std::atomic<uint64_t> longest_ns_{0};
};

}  // namespace uffd

#endif  // UFFD_CORE_CUT_H_
