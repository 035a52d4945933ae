// The `wp-async` engine: the kernel itself notes the first write to each armed page
// (UFFD_FEATURE_WP_ASYNC), PAGEMAP_SCAN reads and re-arms them in one step. No thread, no
// privilege.
#ifndef UFFD_CORE_WP_ASYNC_H_
#define UFFD_CORE_WP_ASYNC_H_

#include "core/tracking_domain.h"
#include "core/userfaultfd.h"

namespace uffd {

// A descriptor for asynchronous tracking, by the least privileged way that works.
Userfaultfd::Opened OpenAsyncTracking() noexcept;

// Of this process; never destroyed.
TrackingDomain& WpAsyncDomain() noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_WP_ASYNC_H_
