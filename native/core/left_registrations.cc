#include "core/left_registrations.h"

#include <cerrno>
#include <mutex>
#include <utility>
#include <vector>

namespace uffd {
namespace {

struct Left {
  Range range;
  std::function<Status(Range)> end;
};

std::mutex g_mutex;

// Threads outlive static destructors.
std::vector<Left>& All() noexcept {
  static auto& all = *new std::vector<Left>();
  return all;
}

}  // namespace

void LeaveRegistered(Range range, std::function<Status(Range)> end) noexcept {
  const std::lock_guard<std::mutex> lock(g_mutex);
  All().push_back({range, std::move(end)});
}

bool EndLeft(Range wanted) noexcept {
  const std::lock_guard<std::mutex> lock(g_mutex);
  bool none = true;
  std::erase_if(All(), [&](const Left& left) {
    if (!left.range.Overlaps(wanted)) return false;
    const Status ended = left.end(left.range);
    const bool stays = !ended && ended.Error().error == ENOMEM;
    if (stays) none = false;
    return !stays;
  });
  return none;
}

void ForgetLeft(Range range) noexcept {
  const std::lock_guard<std::mutex> lock(g_mutex);
  for (Left& left : std::exchange(All(), {})) {
    RangeSet rest;
    rest.Add(left.range);
    rest.Remove(range);
    for (const Range& part : rest.Ranges()) All().push_back({part, left.end});
  }
}

}  // namespace uffd
