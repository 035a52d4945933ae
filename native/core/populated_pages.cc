#include "core/populated_pages.h"

#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>

#include "core/mapping.h"
#include "core/memory_map.h"
#include "core/pagemap.h"
#include "core/registry.h"

namespace uffd {
namespace {

// Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped (markers and pages on
// the move count as swapped), bit 57 write-protected through a userfaultfd.
constexpr uint64_t kSwapped = uint64_t{1} << 62;
constexpr uint64_t kExists = uint64_t{1} << 63 | kSwapped;
constexpr uint64_t kMaybeArmedHole = kSwapped | uint64_t{1} << 57;

bool MachineHasSwap() noexcept {
  struct sysinfo machine {};
  return sysinfo(&machine) != 0 || machine.totalswap != 0;
}

}  // namespace

PopulatedPages PopulatedPages::Of(Range range, uint64_t page_size, bool has_aliases) noexcept {
  // Reading a hole of hugetlb memory takes a page, which is reserved for it. Nobody tells where
  // another mapping has filled one.
  if (page_size > PageSize() && has_aliases) return PopulatedPages(Source::kUnknown);
  if (page_size > PageSize()) return OfPrivateMemory();
  switch (KindOf(range)) {
    case MemoryKind::kPrivateAnonymous:
      return OfPrivateMemory();
    case MemoryKind::kSharedMemory:
      return PopulatedPages(Source::kPageCache);
    case MemoryKind::kUnknown:
      break;
  }
  // What is not in the page cache may be on a disk: it reads as anything (test 54).
  return PopulatedPages(Source::kUnknown);
}

PopulatedPages PopulatedPages::OfPrivateMemory() noexcept {
  return PopulatedPages(Pagemap::Descriptor() ? Source::kPageTables : Source::kUnknown);
}

PopulatedPages PopulatedPages::OfArmedMemory(uint64_t page_size, bool was_aliased) noexcept {
  if (page_size == PageSize()) return PopulatedPages(Source::kPageCache);
  // Huge pages of hugetlb are never swapped out. Of these the kernel tells what is mapped here, not
  // what the file has (test 64).
  return PopulatedPages(was_aliased ? Source::kUnknown : Source::kUnswappable);
}

void PopulatedPages::Load(uint64_t start, size_t count) noexcept {
  // First of all: who registers it later finds zeros there, too.
  const bool tells = Registry::Get().HolesAreZeros({start, start + count * PageSize()});
  if (!tells || !Ask(start, count)) populated_.fill(1);
}

// False: all of them may exist.
bool PopulatedPages::Ask(uint64_t start, size_t count) noexcept {
  switch (source_) {
    case Source::kPageTables:
      // Mostly all do, and to be told so takes a fifth of what reading their entries does.
      if (!had_holes_ && Pagemap::IsPresent({start, start + count * PageSize()})) return false;
      return LoadFromPageTables(start, count);
    case Source::kPageCache:
      return !MachineHasSwap() && AskMincore(start, count);
    case Source::kUnswappable:
      return AskMincore(start, count);
    case Source::kUnknown:
      break;
  }
  return false;
}

bool PopulatedPages::LoadFromPageTables(uint64_t start, size_t count) noexcept {
  const size_t wanted = count * sizeof(uint64_t);
  const auto at = static_cast<off_t>(start / PageSize() * sizeof(uint64_t));
  const ssize_t got = pread(Pagemap::Descriptor().Value(), entries_.data(), wanted, at);
  if (got != static_cast<ssize_t>(wanted)) return false;
  bool armed_holes = false;
  for (size_t i = 0; i < count; i++) {
    populated_[i] = (entries_[i] & kExists) != 0 ? 1 : 0;
    armed_holes = armed_holes || MayBeArmedHole(i);
  }
  if (armed_holes && !MachineHasSwap()) LeaveOutArmedHoles(start, count);
  had_holes_ = std::count(populated_.begin(), populated_.begin() + count, 0) > 0;
  return true;
}

bool PopulatedPages::MayBeArmedHole(size_t index) const noexcept {
  return (entries_[index] & kMaybeArmedHole) == kMaybeArmedHole;
}

// The marker of an armed page that does not exist counts as swapped. Where nothing can be swapped
// out, mincore() tells it from a page that is on the move.
void PopulatedPages::LeaveOutArmedHoles(uint64_t start, size_t count) noexcept {
  const auto from_page_tables = populated_;
  const bool told = AskMincore(start, count);
  for (size_t i = 0; i < count; i++) {
    if (!told || !MayBeArmedHole(i)) populated_[i] = from_page_tables[i];
  }
}

// mincore() tells what another mapping of the file has filled, too, and takes a marker for a hole,
// but calls a page on the swap device absent.
bool PopulatedPages::AskMincore(uint64_t start, size_t count) noexcept {
  return mincore(reinterpret_cast<void*>(start), count * PageSize(), populated_.data()) == 0;
}

}  // namespace uffd
