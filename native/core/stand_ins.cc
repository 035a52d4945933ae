#include "core/stand_ins.h"

#include <unistd.h>

#include <array>
#include <atomic>

namespace uffd {
namespace {

// Read by fault loops, which wait for nobody.
std::array<std::atomic<uint64_t>, 16> g_known{};

uint64_t Pair(uint32_t thread, uint32_t principal) noexcept {
  return uint64_t{thread} << 32 | principal;
}

}  // namespace

StandIn::StandIn(uint32_t principal) noexcept {
  const uint64_t pair = Pair(static_cast<uint32_t>(gettid()), principal);
  for (size_t i = 0; i < g_known.size(); i++) {
    uint64_t free = 0;
    if (!g_known[i].compare_exchange_strong(free, pair)) continue;
    place_ = static_cast<int>(i);
    return;
  }
}

StandIn::~StandIn() {
  if (IsKnown()) g_known[static_cast<size_t>(place_)] = 0;
}

bool StandIn::WorksFor(uint32_t thread, uint32_t principal) noexcept {
  for (const std::atomic<uint64_t>& known : g_known) {
    if (known == Pair(thread, principal)) return true;
  }
  return false;
}

}  // namespace uffd
