#include "core/lost_pages.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "core/discard.h"
#include "core/holder_list.h"
#include "core/mapping_table.h"

namespace uffd {
namespace {

constexpr Failure kLost{EHWPOISON, "restore"};

// By the kernel, which fails where a touch would be SIGBUS.
bool IsReadable(uint64_t address) noexcept {
  uint8_t byte = 0;
  const iovec local{&byte, 1};
  const iovec remote{reinterpret_cast<void*>(address), 1};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

}  // namespace

LostPages& LostPages::Get() noexcept {
  static auto* pages = new LostPages();
  return *pages;
}

void LostPages::Add(const RangeSet& pages, uint64_t page_size) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  pages_[page_size].AddAll(pages);
  any_ = true;
}

void LostPages::Forget(Range pages) noexcept {
  if (!any_) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [page_size, lost] : pages_) lost.Remove(pages);
}

// Those that are still lost. What can be read was exchanged by somebody else: unmapped, say.
std::vector<LostPages::Lost> LostPages::Find(Range bytes) noexcept {
  std::vector<Lost> noted;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto& [page_size, lost] : pages_) {
      RangeSet within = lost.Within(bytes.RoundOutward(page_size));
      for (const Range& pages : within.Ranges()) noted.push_back({pages, page_size});
    }
  }
  std::vector<Lost> found;
  // Without the lock: it may have to wait for a page.
  for (const auto& [pages, page_size] : noted) {
    for (uint64_t at = pages.start; at < pages.end; at += page_size) {
      const Range page{at, at + page_size};
      if (IsReadable(at)) {
        Forget(page);
      } else if (at != pages.start && !found.empty() && found.back().pages.end == at) {
        found.back().pages.end = page.end;
      } else {
        found.push_back({page, page_size});
      }
    }
  }
  return found;
}

Status LostPages::Check(Range bytes) noexcept {
  HolderList::Get().FinishLoads(bytes);
  if (!any_ || Find(bytes).empty()) return Done{};
  return kLost;
}

Status LostPages::Empty(Range bytes, RangeSet* emptied) noexcept {
  HolderList::Get().FinishLoads(bytes);
  if (!any_) return Done{};
  const std::vector<Lost> lost = Find(bytes);
  for (const auto& [pages, page_size] : lost) {
    if (!bytes.Contains(pages)) return kLost;
  }
  for (const auto& [pages, page_size] : lost) {
    Status discarded = DiscardTracked(MappingTable::Get().At(pages).get(), pages);
    if (!discarded) return discarded;
    emptied->Add(pages);
  }
  return Done{};
}

}  // namespace uffd
