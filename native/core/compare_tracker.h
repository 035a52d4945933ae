// The `compare` engine: a copy of the memory, and whatever differs from it was written. Works where
// nothing else does. Needs no userfaultfd, no PAGEMAP_SCAN and no privilege.
//
// A look reads all of the memory that exists and, where it differed, copies it. Pages of zeros are
// not stored, and pages that do not exist are neither read nor made to exist (PopulatedPages).
// A write that leaves the bytes as they were is not seen.
#ifndef UFFD_CORE_COMPARE_TRACKER_H_
#define UFFD_CORE_COMPARE_TRACKER_H_

#include <memory>

#include "core/dirty_tracker.h"
#include "core/mapping.h"
#include "core/populated_pages.h"

namespace uffd {

class CompareTracker final : public DirtyTracker {
 public:
  // Copies `bytes`. `page_size`: of the memory, which is what is reported. `has_aliases`: see
  // PopulatedPages.
  static Result<std::unique_ptr<DirtyTracker>> Create(Range bytes, uint64_t page_size,
                                                      bool has_aliases) noexcept;
  // Compares with a copy that is somebody else's and that no collect changes. It lies as far behind
  // the start of its mapping as `bytes` begins behind the start of a page.
  static std::unique_ptr<DirtyTracker> Against(std::shared_ptr<Mapping> copy, Range bytes) noexcept;

  Status Collect(RangeSet* dirty) noexcept override;
  Status Peek(RangeSet* dirty) noexcept override;
  Result<bool> Settle(Range pages) noexcept override;
  Result<bool> AnyWritten() noexcept override;
  void MarkDirty(Range pages) noexcept override;
  Status Follow(Range bytes) noexcept override;

 private:
  CompareTracker(std::shared_ptr<Mapping> copy, Range bytes, uint64_t page_size, bool owns_copy,
                 bool has_aliases) noexcept;
  Range Pages() const noexcept { return bytes_.RoundOutward(page_size_); }
  // Where the copy of what lives at `address` is; it may lie behind the end of the copy.
  uint64_t CopyOf(uint64_t address) const noexcept;
  template <typename Visit>
  Status ForEachDifferent(Range pages, Visit visit) noexcept;
  bool Differs(Range part, bool exists, bool copy_exists) const noexcept;
  void Keep(Range part, RangeSet* zeroed) noexcept;
  void LookAgainAt(Range bytes) noexcept;
  Status MakeRoom(uint64_t bytes, bool keep) noexcept;

  std::shared_ptr<Mapping> copy_;
  Range bytes_;
  uint64_t page_size_;
  uint64_t lead_;  // where the copy begins in its first page
  bool owns_copy_;
  bool has_aliases_;
  PopulatedPages live_;
  PopulatedPages copied_;
  RangeSet pending_;  // reported by the next collect whatever the bytes say
};

}  // namespace uffd

#endif  // UFFD_CORE_COMPARE_TRACKER_H_
