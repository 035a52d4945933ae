// What this kernel offers and what this user may do, asked on throw-away descriptors. Facts only;
// causes and remedies are told in TypeScript.
#ifndef UFFD_CORE_PROBE_H_
#define UFFD_CORE_PROBE_H_

#include <cstdint>
#include <vector>

#include "core/userfaultfd.h"

namespace uffd {

struct Probe {
  uint64_t page_size = 0;
  std::vector<Attempt> attempts;  // every way of opening, each tried
  uint64_t features = 0;          // 0 when no way works
  uint64_t ioctls = 0;
  int pagemap_open_error = 0;
  int pagemap_scan_error = 0;  // ENOTTY before Linux 6.7
  int wp_async_error = 0;      // of the whole chain: register, arm, write, scan; 0: it works
};

Probe ProbeKernel() noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_PROBE_H_
