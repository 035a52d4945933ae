// At the limit of mappings the kernel cannot end the registration of a part of a mapping. What an
// engine leaves registered for that reason, though nobody tracks it any more, is noted here, and
// ended when somebody wants the memory (test 37).
#ifndef UFFD_CORE_LEFT_REGISTRATIONS_H_
#define UFFD_CORE_LEFT_REGISTRATIONS_H_

#include <functional>

#include "core/range.h"
#include "core/result.h"

namespace uffd {

// `end` is called without any lock but the one here; ENOMEM: it is registered still.
void LeaveRegistered(Range range, std::function<Status(Range)> end) noexcept;
// Before `wanted` is registered. False when a part of it is left as it was.
bool EndLeft(Range wanted) noexcept;
// The engine that left it has taken it up again.
void ForgetLeft(Range range) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_LEFT_REGISTRATIONS_H_
