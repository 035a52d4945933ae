// Which pages of one registration were written: a bit for each, set by the fault loop before it
// unprotects the page, taken by a collect that arms the page again. And who wrote.
//
// Both keep the lock over their two steps. Were it only over the bits, this would lose writes:
//
//   loop thread                     collecting thread
//   reads a fault of page P
//   notes P
//                                   takes the bit of P, arms P (it still is), reports P, and
//                                   its caller copies P
//   unprotects P: its writer goes
//   on, and this write and all
//   later ones are in no copy and
//   raise no fault
//
// With it the collect comes before both steps (P is armed and not reported; the write is in the
// next set) or after both (P is reported and armed, and who writes it then faults anew). Test 62
// holds the loop between its two steps.
#ifndef UFFD_CORE_WRITTEN_PAGES_H_
#define UFFD_CORE_WRITTEN_PAGES_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "core/fault.h"
#include "core/mapping.h"
#include "core/range.h"
#include "core/result.h"
#include "core/test_barrier.h"
#include "core/write_log.h"

namespace uffd {

class WrittenPages {
 public:
  static Result<std::shared_ptr<WrittenPages>> Create(Range pages, uint64_t page_size) noexcept;

  // Notes the page of a write fault and has it unprotected. Allocates nothing. Loop thread.
  template <typename Unprotect>
  auto Note(const Event& fault, Unprotect unprotect) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    Set(fault);
    UFFD_BARRIER("written-after-note", nullptr);
    return unprotect();
  }

  // Notes pages that nobody wrote: the next collect arms them.
  void NoteAll(Range pages) noexcept;

  // Takes what is noted of `pages` and has it armed: `arm(Range)` for each run.
  template <typename Arm>
  Status Take(Range pages, RangeSet* written, Arm arm) noexcept {
    for (Slice slice = SliceAt(pages.start, pages); slice.count > 0; slice = Next(slice, pages)) {
      Taken taken;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        taken = TakeSlice(slice);
        Status armed = Done{};
        ForEachRun(taken, slice, [&](Range run) {
          if (armed) armed = arm(run);
        });
        if (!armed) return armed;
      }
      ForEachRun(taken, slice, [written](Range run) { written->Add(run); });
    }
    return Done{};
  }

  // Adds what is noted.
  void Look(Range pages, RangeSet* written) noexcept;
  // Moves the writes to pages that were taken since to `log`.
  void TakeWrites(Range pages, WriteLog* log) noexcept;

 private:
  // A collect takes this many pages at a time: as long as it arms them, their writers wait.
  static constexpr size_t kWords = 64;
  static constexpr size_t kLogged = WriteLog::kCapacity;

  using Taken = std::array<uint64_t, kWords>;
  // Pages by number. A slice lies in kWords words of the bitmap.
  struct Slice {
    size_t first = 0;
    size_t count = 0;
  };

  WrittenPages(Range pages, uint64_t page_size, std::shared_ptr<Mapping> memory) noexcept;
  void Set(const Event& fault) noexcept;
  bool IsSet(size_t page) const noexcept { return (bits_[page / 64] >> (page % 64) & 1) != 0; }
  size_t PageAt(uint64_t address) const noexcept { return (address - pages_.start) / page_size_; }
  Slice SliceAt(uint64_t address, Range pages) const noexcept;
  Slice Next(Slice slice, Range pages) const noexcept;
  Taken Noted(Slice slice) const noexcept;
  Taken TakeSlice(Slice slice) noexcept;
  template <typename Visit>
  void ForEachRun(const Taken& taken, Slice slice, Visit visit) const noexcept {
    const size_t base = slice.first / 64 * 64;
    size_t run_start = 0;
    size_t run_end = 0;
    for (size_t word = 0; word < kWords; word++) {
      for (uint64_t bits = taken[word]; bits != 0; bits &= bits - 1) {
        const size_t page = base + word * 64 + static_cast<size_t>(std::countr_zero(bits));
        if (page != run_end || run_end == run_start) {
          if (run_end != run_start) visit(RangeOf(run_start, run_end));
          run_start = page;
        }
        run_end = page + 1;
      }
    }
    if (run_end != run_start) visit(RangeOf(run_start, run_end));
  }
  Range RangeOf(size_t first, size_t end) const noexcept {
    return {pages_.start + first * page_size_, pages_.start + end * page_size_};
  }

  const Range pages_;
  const uint64_t page_size_;
  const std::shared_ptr<Mapping> memory_;  // untouched pages of it cost nothing

  // Held for a few stores and the ioctls that go with them. The loop waits for it while threads
  // sleep: whoever has it touches no memory that may fault.
  std::mutex mutex_;
  uint64_t* const bits_;
  Write* const log_;
  size_t logged_ = 0;
  uint64_t missed_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_WRITTEN_PAGES_H_
