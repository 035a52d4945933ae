#include "core/arm_log.h"

namespace uffd {

void ArmLog::Note(Range armed) noexcept {
  const uint64_t epoch = epoch_.load() + 1;
  last_[epoch % kRemembered] = armed;
  epoch_.store(epoch);
}

bool ArmLog::ArmedSince(uint64_t stamp, Range page) const noexcept {
  const uint64_t now = epoch_.load();
  if (now - stamp > kRemembered)
    return true;  // forgotten: the thread faults again, nothing is lost
  for (uint64_t epoch = stamp + 1; epoch <= now; epoch++) {
    if (last_[epoch % kRemembered].Overlaps(page)) return true;
  }
  return false;
}

}  // namespace uffd
