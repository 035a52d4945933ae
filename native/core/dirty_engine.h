// The engines by name, and which of them works here.
#ifndef UFFD_CORE_DIRTY_ENGINE_H_
#define UFFD_CORE_DIRTY_ENGINE_H_

#include <cstdint>
#include <memory>

#include "core/dirty_tracker.h"
#include "core/mapping.h"

namespace uffd {

enum class DirtyEngine { kWpAsync, kCompare };

Result<std::unique_ptr<DirtyTracker>> CreateDirtyTracker(DirtyEngine engine, Range bytes,
                                                         uint64_t page_size) noexcept;

// For Snapshot: a tracker of what differs from its copy, or was written.
Result<std::unique_ptr<DirtyTracker>> TrackByWpAsync(Range bytes,
                                                     const std::shared_ptr<Mapping>& copy) noexcept;
Result<std::unique_ptr<DirtyTracker>> TrackByCompare(Range bytes,
                                                     const std::shared_ptr<Mapping>& copy) noexcept;

// True for the first caller in this process: whoever falls back says so, once, in whatever thread.
bool FirstFallback() noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_DIRTY_ENGINE_H_
