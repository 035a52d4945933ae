#include "core/unpoison.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>

#include "core/pagemap.h"
#include "core/registry.h"
#include "core/sigbus_resolver.h"

namespace uffd {
namespace {

// Of an entry in /proc/self/pagemap. Pages of a memfd are swapped out of the file, not of the page
// table: what is absent here and marked, and not by write protection, is poisoned.
constexpr uint64_t kSwapped = uint64_t{1} << 62;
constexpr uint64_t kUffdWp = uint64_t{1} << 57;

std::atomic<bool> g_any{false};

Status AddPoisoned(Range range, RangeSet* poisoned) noexcept {
  const Result<int> fd = Pagemap::Descriptor();
  if (!fd) return fd.Error();
  std::array<uint64_t, 512> entries{};
  const uint64_t size = PageSize();
  for (uint64_t start = range.start; start < range.end;) {
    const uint64_t wanted = std::min<uint64_t>(entries.size(), (range.end - start) / size);
    const ssize_t bytes = pread(fd.Value(), entries.data(), wanted * sizeof(uint64_t),
                                static_cast<off_t>(start / size * sizeof(uint64_t)));
    if (bytes <= 0) return Failure{bytes < 0 ? errno : EIO, "read(/proc/self/pagemap)"};
    const uint64_t count = static_cast<uint64_t>(bytes) / sizeof(uint64_t);
    for (uint64_t i = 0; i < count; i++) {
      if ((entries[i] & (kSwapped | kUffdWp)) != kSwapped) continue;
      poisoned->Add({start + i * size, start + (i + 1) * size});
    }
    start += count * size;
  }
  return Done{};
}

// The same memory, mapped anew at the same place: of a shared mapping mremap() makes a second one,
// without a page in it, which then takes the place of the first.
Status MapAnew(Range pages) noexcept {
  void* const at = reinterpret_cast<void*>(pages.start);
  void* const second = mremap(at, 0, pages.Length(), MREMAP_MAYMOVE);
  if (second == MAP_FAILED) return Failure{errno, "mremap"};
  constexpr int kThere = MREMAP_MAYMOVE | MREMAP_FIXED;
  if (mremap(second, pages.Length(), pages.Length(), kThere, at) == MAP_FAILED) {
    const Failure failure{errno, "mremap"};
    munmap(second, pages.Length());
    return failure;
  }
  return Done{};
}

}  // namespace

void NotePoison() noexcept {
  g_any = true;
  SigbusResolver::Reinstall();
}

Status Unpoison(const Mapping& mapping, Range range) noexcept {
  if (!g_any || !mapping.IsShared() || mapping.PagesOf() != Backing::kMemfd) return Done{};
  RangeSet poisoned;
  const Status found = AddPoisoned(range, &poisoned);
  if (!found) return found;
  // What is mapped anew is registered no more. What is filled is a page, and goes as any other.
  RangeSet unregistered = poisoned;
  Status zeroed = Registry::Get().ZeroRegistered(&unregistered);
  if (!zeroed) return zeroed;
  poisoned.RemoveAll(&unregistered);
  for (const Range& pages : poisoned.Ranges()) {
    Status discarded = mapping.Discard(pages);
    if (!discarded) return discarded;
  }
  for (const Range& pages : unregistered.Ranges()) {
    Status mapped = MapAnew(pages);
    if (!mapped) return mapped;
  }
  return Done{};
}

}  // namespace uffd
