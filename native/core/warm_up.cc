#include "core/warm_up.h"

namespace uffd {
namespace {

// What the kernel refuses (before Linux 5.14) comes into being when it is written.
void Make(const SlotStore::Cold& slots) noexcept {
  static_cast<void>(MakeExist(slots.bytes).Ok());
  static_cast<void>(MakeExist(slots.counts).Ok());
}

}  // namespace

bool WarmUp::Step() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (pages_done_ < slots_.pages.size()) {
    Make(slots_.pages[pages_done_++]);
  } else if (tables_done_ < slots_.tables.size()) {
    Make(slots_.tables[tables_done_++]);
  } else {
    return false;
  }
  return true;
}

WarmUp::Slots WarmUp::Stop() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  slots_.pages.erase(slots_.pages.begin() + static_cast<ptrdiff_t>(pages_done_),
                     slots_.pages.end());
  slots_.tables.erase(slots_.tables.begin() + static_cast<ptrdiff_t>(tables_done_),
                      slots_.tables.end());
  pages_done_ = 0;
  tables_done_ = 0;
  return std::exchange(slots_, {});
}

}  // namespace uffd
