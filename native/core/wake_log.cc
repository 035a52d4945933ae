#include "core/wake_log.h"

namespace uffd {

void WakeLog::Note(Range range) noexcept {
  const uint64_t epoch = epoch_.load() + 1;
  last_[epoch % kRemembered] = range;
  epoch_.store(epoch);
}

bool WakeLog::WokenSince(uint64_t stamp, Range page) const noexcept {
  const uint64_t now = epoch_.load();
  if (now - stamp > kRemembered)
    return true;  // forgotten: the thread faults again, nothing is lost
  for (uint64_t epoch = stamp + 1; epoch <= now; epoch++) {
    if (last_[epoch % kRemembered].Overlaps(page)) return true;
  }
  return false;
}

}  // namespace uffd
