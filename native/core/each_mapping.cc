#include "core/each_mapping.h"

#include <cerrno>

#include "core/memory_map.h"

namespace uffd {

Status UnregisterEach(Userfaultfd* uffd, Range range) noexcept {
  Status done = uffd->Unregister(range);
  if (done || done.Error().error != EINVAL) return done;
  ForEachMapping(range, [&](Range part) {
    const Status each = uffd->Unregister(part);
    if (!each && each.Error().error != EINVAL) done = each;
  });
  return done;
}

void WriteProtectEach(Userfaultfd* uffd, Range range, uint64_t mode) noexcept {
  ForEachMapping(range,
                 [&](Range part) { static_cast<void>(uffd->WriteProtect(part, mode).Ok()); });
}

}  // namespace uffd
