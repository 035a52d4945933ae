// PAGEMAP_SCAN (Linux 6.7): which pages of a range were written, read and re-armed in one step.
// Documentation/admin-guide/mm/pagemap.rst in the kernel tree.
#ifndef UFFD_CORE_PAGEMAP_H_
#define UFFD_CORE_PAGEMAP_H_

#include <cstdint>
#include <memory>

#include "core/file_descriptor.h"
#include "core/kernel_abi.h"
#include "core/mapping.h"
#include "core/packed_pages.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

class Pagemap {
 public:
  // Opened once per process, at load: after setuid() it may no longer be possible.
  static Result<int> Descriptor() noexcept;
  static Result<Pagemap> Create() noexcept;

  // Whether the page at `address` carries write protection, also one that does not exist yet. Needs
  // no PAGEMAP_SCAN (bit 57 of its entry in /proc/self/pagemap).
  static bool IsArmed(uint64_t address) noexcept;

  // Whether the kernel scans at all. Needs no memory, like the next.
  static Status Check(Range page) noexcept;
  // Whether all of the range is tracked asynchronously.
  static bool IsTracked(Range range) noexcept;
  // Whether all of its pages are there, as far as it is told.
  static bool IsPresent(Range range) noexcept;

  enum class Rearm { kNo, kYes };
  // Adds the pages of `range` written since they were last armed to `written`, page-aligned. Fails
  // with EPERM when a part of the range is not tracked asynchronously (it was remapped since).
  // After any failure the range's state is unknown: some pages may be re-armed already.
  Status Written(Range range, Rearm rearm, RangeSet* written) noexcept;
  // The same, re-armed and straight into what is handed over.
  Status CollectPacked(Range range, PackedPages* written) noexcept;
  // Whether there is any such page. Writes no memory but the scan's own buffer.
  Result<bool> AnyWritten(Range range, Rearm rearm) noexcept;
  // The same without re-arming, with a helper where that is faster, which may have to be made.
  Result<bool> AnyWrittenWithHelp(Range range) noexcept;
  // Adds the pages that carry write protection, also those that do not exist yet.
  Status Armed(Range range, RangeSet* armed) noexcept;
  // Adds the pages that do not. Also before PAGEMAP_SCAN, from Linux 5.14 on, like IsArmed.
  Status Unarmed(Range range, RangeSet* unarmed) noexcept;

 private:
  struct Query {
    uint64_t flags;
    uint64_t inverted;
    uint64_t all_of;
    uint64_t any_of;
    uint64_t returned;
  };
  Pagemap(int fd, std::shared_ptr<Mapping> memory, size_t room) noexcept;
  Status UnarmedByEntries(Range range, RangeSet* unarmed) noexcept;
  static Query QueryWritten(Rearm rearm) noexcept;
  // `take` gets what each ioctl found, and how many.
  template <typename Take>
  Status Scan(Range range, const Query& query, Take take) noexcept;

  int fd_;
  size_t room_;  // regions that one ioctl may return
  // Pages of our own, never tracked: a scan that cannot store its result has re-armed the pages all
  // the same, and a result stored among tracked pages would be a write of theirs.
  std::shared_ptr<Mapping> memory_;
  page_region* regions_;
};

}  // namespace uffd

#endif  // UFFD_CORE_PAGEMAP_H_
