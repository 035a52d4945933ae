// One memory of a copy-on-write snapshot: its pages are copied one by one, each before it is first
// written. Ignorant of userfaultfd: somebody else arms the pages and asks here before each write.
#ifndef UFFD_CORE_CAPTURE_H_
#define UFFD_CORE_CAPTURE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/cut.h"
#include "core/mapping.h"
#include "core/page_states.h"
#include "core/populated_pages.h"
#include "core/range.h"
#include "core/result.h"
#include "core/write_observer.h"

namespace uffd {

class Capture final : public WriteObserver {
 public:
  struct Memory {
    Range pages;  // whole pages of `page_size`
    uint64_t page_size = 0;
    // Keeps the addresses mapped; null: somebody else may unmap them at any moment.
    std::shared_ptr<Mapping> mapping;
  };

  // `copy` has room for all of it, and is zero.
  static Result<std::shared_ptr<Capture>> Create(Memory memory, std::shared_ptr<Mapping> copy,
                                                 std::shared_ptr<Cut> cut) noexcept;

  const Range& Pages() const noexcept { return memory_.pages; }
  uint64_t PageBytes() const noexcept { return memory_.page_size; }
  Cut& TheCut() const noexcept { return *cut_; }

  // WriteObserver, for the resolvers.
  Verdict BeforeWrite(Range page) noexcept override;
  void AfterWrite(std::chrono::nanoseconds waited) noexcept override { cut_->CountWait(waited); }
  void Lost(Range range) noexcept override;

  // Captures what is still armed of the pages from `page` on, up to a batch; their number. One
  // thread.
  size_t Sweep(size_t page) noexcept;
  size_t PageCount() const noexcept { return states_->Count(); }
  void AwaitAll() const noexcept;
  // Captures the pages of these bytes before it returns.
  void CaptureNow(uint64_t offset, uint64_t length) noexcept;
  // Captures the pages of this range, which may be given back to the kernel then.
  void BeforeDiscard(Range range) noexcept;
  // Every page that nobody wrote is still armed, so no write went unseen and none of the pages was
  // exchanged for another (test 64, B10, B11). Called when all is captured.
  bool HeldAll() noexcept;

  // Once all is captured: adds those of the pages from `page` on, up to a batch, that differ from
  // their copies now; the size of the batch. One thread at a time.
  size_t AddDifferent(size_t page, RangeSet* different) noexcept;

  // The addresses of the pages that were written since the cut, or are about to be.
  void Written(RangeSet* written) const;

 private:
  Capture(Memory memory, std::shared_ptr<Mapping> copy, std::shared_ptr<Cut> cut,
          std::unique_ptr<PageStates> states) noexcept;
  size_t IndexOf(uint64_t address) const noexcept {
    return (address - memory_.pages.start) / memory_.page_size;
  }
  Range PageAt(size_t page) const noexcept {
    const uint64_t start = memory_.pages.start + page * memory_.page_size;
    return {start, start + memory_.page_size};
  }
  uint8_t* CopyOf(size_t page) const noexcept { return copy_->Data() + page * memory_.page_size; }
  // From a page on: how many make a batch, and which of them exist.
  size_t LoadBatch(size_t page) noexcept;
  bool Exists(size_t index_in_batch) const noexcept;
  bool EqualsCopy(size_t page, bool exists) const noexcept;
  void CopyClaimed(size_t page) noexcept;
  void CopyClaimedSafely(size_t page) noexcept;
  PageStates::Content Store(size_t page, const uint8_t* bytes) noexcept;

  const Memory memory_;
  const std::shared_ptr<Mapping> copy_;
  const std::shared_ptr<Cut> cut_;
  const std::unique_ptr<PageStates> states_;
  std::atomic<bool> held_all_{false};
  PopulatedPages populated_;  // of the batch
};

}  // namespace uffd

#endif  // UFFD_CORE_CAPTURE_H_
