// The engines by name, and which of them works here.
#ifndef UFFD_CORE_DIRTY_ENGINE_H_
#define UFFD_CORE_DIRTY_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "core/dirty_tracker.h"
#include "core/mapping.h"
#include "core/page_marks.h"

namespace uffd {

// kWpSyncUserMode: without privilege; system calls that write to armed memory fail with EFAULT.
enum class DirtyEngine { kWpAsync, kWpSync, kWpSyncUserMode, kCompare };

// What stands in the way of an engine here, if anything.
std::optional<PageMarks::Unavailable> WhyUnavailable(DirtyEngine engine) noexcept;

// `memory`: where memory of our own is mapped in which the bytes lie, else null.
Result<std::unique_ptr<DirtyTracker>> CreateDirtyTracker(
    DirtyEngine engine, Range bytes, uint64_t page_size,
    const std::shared_ptr<Mapping>& memory) noexcept;

// Runs `change`, by which pages lose their content without a write. No collect of any engine comes
// in between, and every tracker of the pages reports them.
Status ChangeTracked(Range pages, const std::function<Status()>& change) noexcept;

// For Snapshot: a tracker of what differs from its copy, or was written.
Result<std::unique_ptr<DirtyTracker>> TrackByWpAsync(Range bytes, uint64_t page_size,
                                                     const std::shared_ptr<Mapping>& copy) noexcept;
Result<std::unique_ptr<DirtyTracker>> TrackByCompare(Range bytes, uint64_t page_size,
                                                     const std::shared_ptr<Mapping>& copy) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_DIRTY_ENGINE_H_
