#include "core/warm_up.h"

#include <algorithm>

#include "core/test_barrier.h"

namespace uffd {
namespace {

// What the kernel refuses (before Linux 5.14) comes into being when it is written.
void Make(const SlotStore::Cold& slots) noexcept {
  static_cast<void>(MakeExist(slots.bytes).Ok());
  static_cast<void>(MakeExist(slots.counts).Ok());
}

}  // namespace

bool WarmUp::Step() noexcept {
  const size_t next = done_;
  const size_t pages = slots_.pages.size();
  if (is_stopped_ || next == pages + slots_.tables.size()) return false;
  UFFD_BARRIER("memory is made", nullptr);
  Make(next < pages ? slots_.pages[next] : slots_.tables[next - pages]);
  done_ = next + 1;
  return true;
}

WarmUp::Slots WarmUp::Stop() noexcept {
  is_stopped_ = true;
  const size_t done = done_;
  const size_t pages = std::min(done, slots_.pages.size());
  const auto first = [](const std::vector<SlotStore::Cold>& slots, size_t count) {
    return std::vector(slots.begin(), slots.begin() + static_cast<ptrdiff_t>(count));
  };
  return {first(slots_.pages, pages), first(slots_.tables, done - pages)};
}

}  // namespace uffd
