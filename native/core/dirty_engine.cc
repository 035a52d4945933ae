#include "core/dirty_engine.h"

#include <atomic>
#include <cerrno>

#include "core/compare_tracker.h"
#include "core/wp_async_tracker.h"

namespace uffd {

Result<std::unique_ptr<DirtyTracker>> CreateDirtyTracker(DirtyEngine engine, Range bytes,
                                                         uint64_t page_size) noexcept {
  switch (engine) {
    case DirtyEngine::kWpAsync:
      return WpAsyncTracker::Create(bytes, page_size);
    case DirtyEngine::kCompare:
      return CompareTracker::Create(bytes, page_size);
  }
  return Failure{EINVAL, "tracker"};
}

Result<std::unique_ptr<DirtyTracker>> TrackByWpAsync(
    Range bytes, const std::shared_ptr<Mapping>& /*copy*/) noexcept {
  return WpAsyncTracker::Create(bytes, PageSize());
}

Result<std::unique_ptr<DirtyTracker>> TrackByCompare(
    Range bytes, const std::shared_ptr<Mapping>& copy) noexcept {
  return CompareTracker::Against(copy, bytes);
}

bool FirstFallback() noexcept {
  static std::atomic<bool> taken{false};
  return !taken.exchange(true);
}

}  // namespace uffd
