#include "lingering.h"

#include <algorithm>

namespace uffd {
namespace {

// Who was woken so soon after its last events would have had these while lingering: two wake-ups,
// of the fault loop and of the event loop, are most of it.
constexpr uint64_t kSoon = 150'000;
constexpr int kMostInVain = 2;
constexpr int kMostNeeded = 256;

}  // namespace

void Lingering::Woken(uint64_t now) noexcept {
  soon_ = now - last_end_ < kSoon ? soon_ + 1 : 0;
  if (soon_ < soon_needed_) return;
  soon_ = 0;
  eager_ = true;
}

void Lingering::Waited(bool in_time) noexcept {
  if (in_time) {
    in_vain_ = 0;
    soon_needed_ = 1;
    return;
  }
  if (++in_vain_ < kMostInVain) return;
  in_vain_ = 0;
  eager_ = false;
  soon_needed_ = std::min(2 * soon_needed_, kMostNeeded);
}

}  // namespace uffd
