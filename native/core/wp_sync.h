// The `wp-sync` engine: a first write to an armed page is a fault, which this process's loop notes
// in a bitmap and ends (written_pages.h). For kernels before wp-async, and for who wants to know
// which thread wrote.
//
// A collect takes the bitmap and looks at the page tables as well: a page that is neither noted nor
// armed has lost its protection with its content (MADV_DONTNEED, mremap, KSM, a mapping made anew;
// traps B2, B10, B11, B12) and counts as written. From Linux 5.14 on, where they tell.
#ifndef UFFD_CORE_WP_SYNC_H_
#define UFFD_CORE_WP_SYNC_H_

#include "core/tracking_domain.h"
#include "core/userfaultfd.h"

namespace uffd {

// Of this process; never destroyed. `user_mode`: kNever serves writes of system calls, too; with
// kOnly, which needs no privilege, those fail with EFAULT.
TrackingDomain& WpSyncDomain(UserMode user_mode) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_WP_SYNC_H_
