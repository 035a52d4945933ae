#include "core/probe.h"

#include <cerrno>

#include "core/mapping.h"
#include "core/pagemap.h"
#include "core/test_barrier.h"
#include "core/wp_async.h"

namespace uffd {
namespace {

// Arms one page that was never touched, writes it, and asks which page was written.
int TryAsyncTracking(Pagemap* pagemap) noexcept {
  Userfaultfd::Opened opened = OpenAsyncTracking();
  if (opened.failure.error != 0) return opened.failure.error;
  Result<std::shared_ptr<Mapping>> memory = Mapping::Anonymous(2 * PageSize());
  if (!memory) return memory.Error().error;
  const Range range = memory.Value()->AddressRange();
  const Result<uint64_t> registered = opened.uffd.Register(range, UFFDIO_REGISTER_MODE_WP);
  if (!registered) return registered.Error().error;
  const Status armed = opened.uffd.WriteProtect(range, UFFDIO_WRITEPROTECT_MODE_WP);
  if (!armed) return armed.Error().error;
  *const_cast<volatile uint8_t*>(memory.Value()->Data()) = 1;
  RangeSet written;
  const Status scanned = pagemap->Written(range, Pagemap::Rearm::kYes, &written);
  if (!scanned) return scanned.Error().error;
  return written.Bytes() == PageSize() ? 0 : EPROTO;
}

int TryScan() noexcept {
  Result<std::shared_ptr<Mapping>> memory = Mapping::Anonymous(PageSize());
  if (!memory) return memory.Error().error;
  const Status scanned = Pagemap::Check(memory.Value()->AddressRange());
  return scanned ? 0 : scanned.Error().error;
}

}  // namespace

Probe ProbeKernel() noexcept {
  Probe probe;
  probe.page_size = PageSize();
  for (const Access access : {Access::kDevice, Access::kSystemCall, Access::kUserModeOnly}) {
    int error = 0;
    const FileDescriptor fd = Userfaultfd::OpenBy(access, &error);
    if (error == 0) {
      const Result<uffdio_api> api = Userfaultfd::Handshake(fd.Get(), 0);
      if (api) {
        probe.features |= api.Value().features & ~static_cast<uint64_t>(UFFD_WITHHELD_FEATURES());
        probe.ioctls |= api.Value().ioctls;
      } else {
        error = api.Error().error;
      }
    }
    probe.attempts.push_back({access, error});
  }

  Result<Pagemap> pagemap = Pagemap::Create();
  if (!pagemap) {
    probe.pagemap_open_error = pagemap.Error().error;
    probe.pagemap_scan_error = probe.wp_async_error = probe.pagemap_open_error;
    return probe;
  }
  probe.pagemap_scan_error = TryScan();
  probe.wp_async_error = TryAsyncTracking(&pagemap.Value());
  return probe;
}

}  // namespace uffd
