// How far each page of a memory is captured. A page goes armed -> copying -> captured, once;
// whoever makes the first step copies it, everybody else waits for the second. Knows no
// userfaultfd.
#ifndef UFFD_CORE_PAGE_STATES_H_
#define UFFD_CORE_PAGE_STATES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/mapping.h"
#include "core/result.h"

namespace uffd {

// All of it may be called from a signal handler.
class PageStates {
 public:
  enum class Content : uint8_t { kZeros, kBytes };

  static Result<std::unique_ptr<PageStates>> Create(size_t pages) noexcept;

  size_t Count() const noexcept { return count_; }
  // armed -> copying. True for one caller: it copies the page, then publishes it.
  bool Claim(size_t page) noexcept;
  // copying -> captured.
  void Publish(size_t page, Content content) noexcept;
  // For those who did not get the claim. The one who did neither sleeps nor waits for anybody.
  void AwaitCaptured(size_t page) const noexcept;
  bool IsArmed(size_t page) const noexcept { return (Load(page) & kProgress) == kArmed; }
  bool IsCaptured(size_t page) const noexcept { return (Load(page) & kProgress) == kCaptured; }
  // Of a captured page: whether it is stored; else it is all zeros.
  bool HasBytes(size_t page) const noexcept { return (Load(page) & kBytes) != 0; }

  // Somebody is about to write the page, which was captured before.
  void MarkWritten(size_t page) noexcept;
  bool IsWritten(size_t page) const noexcept { return (Load(page) & kWritten) != 0; }
  // The page, which is captured, is about to be given back to the kernel: that is no loss.
  void MarkGivenBack(size_t page) noexcept;
  bool IsGivenBack(size_t page) const noexcept { return (Load(page) & kGivenBack) != 0; }
  // The first written page from `page` on; Count() when there is none.
  size_t NextWritten(size_t page) const noexcept;

 private:
  static constexpr uint8_t kArmed = 0;
  static constexpr uint8_t kCopying = 1;
  static constexpr uint8_t kCaptured = 2;
  static constexpr uint8_t kProgress = 3;
  static constexpr uint8_t kBytes = 4;
  static constexpr uint8_t kWritten = 8;
  static constexpr uint8_t kGivenBack = 16;

  PageStates(std::shared_ptr<Mapping> memory, size_t count) noexcept;
  uint8_t Load(size_t page) const noexcept { return states_[page].load(std::memory_order_acquire); }

  std::shared_ptr<Mapping> memory_;
  std::atomic<uint8_t>* states_;
  size_t count_;
};

}  // namespace uffd

#endif  // UFFD_CORE_PAGE_STATES_H_
