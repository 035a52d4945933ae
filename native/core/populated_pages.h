// Which pages of a range exist. One that does not reads as zero, and reading it is not free: a hole
// of shared memory becomes resident, one of private memory costs a fault and a page table entry.
// Where a userfaultfd of this process may fill holes with something else, all pages count as
// existing (test 62).
#ifndef UFFD_CORE_POPULATED_PAGES_H_
#define UFFD_CORE_POPULATED_PAGES_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "core/mapping.h"
#include "core/range.h"

namespace uffd {

class PopulatedPages {
 public:
  static constexpr size_t kBatch = 512;  // pages: what the kernel walks in one go

  // `page_size`: of the memory; more than the machine's means hugetlb. `has_aliases`: it may be
  // filled through other mappings.
  static PopulatedPages Of(Range range, uint64_t page_size, bool has_aliases) noexcept;
  static PopulatedPages OfPrivateMemory() noexcept;
  // Write-protected through a userfaultfd, in an armed hole of which the page tables have a marker.
  static PopulatedPages OfArmedMemory(uint64_t page_size, bool was_aliased) noexcept;

  // Looks at up to kBatch pages from `start` on.
  void Load(uint64_t start, size_t count) noexcept;
  // Whether page `index` of those may hold anything but zeros. True when nobody can tell.
  bool Has(size_t index) const noexcept { return populated_[index] != 0; }
  // `visit(page, Has)` for each page of the range, which it looks at as it goes.
  template <typename Visit>
  void ForEachPage(Range pages, Visit visit) noexcept {
    const uint64_t size = PageSize();
    for (uint64_t start = pages.start; start < pages.end; start += kBatch * size) {
      const size_t count = std::min<uint64_t>(kBatch, (pages.end - start) / size);
      Load(start, count);
      for (size_t i = 0; i < count; i++)
        visit(Range{start + i * size, start + (i + 1) * size}, Has(i));
    }
  }

 private:
  // Where the answer is: in this process's page tables, or with the file behind shared memory.
  enum class Source { kPageTables, kPageCache, kUnswappable, kUnknown };
  explicit PopulatedPages(Source source) noexcept : source_(source) {}
  bool Ask(uint64_t start, size_t count) noexcept;
  bool LoadFromPageTables(uint64_t start, size_t count) noexcept;
  bool MayBeArmedHole(size_t index) const noexcept;
  void LeaveOutArmedHoles(uint64_t start, size_t count) noexcept;
  bool AskMincore(uint64_t start, size_t count) noexcept;

  Source source_;
  bool had_holes_ = false;  // the pages whose entries were read last: those after them may as well
  std::array<uint64_t, kBatch> entries_{};
  std::array<uint8_t, kBatch> populated_{};
};

}  // namespace uffd

#endif  // UFFD_CORE_POPULATED_PAGES_H_
