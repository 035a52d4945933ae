#include "core/owed_pages.h"

#include <algorithm>
#include <cerrno>

#include "core/kernel_abi.h"

namespace uffd {
namespace {

// By one ioctl, during which the memory cannot change.
constexpr uint64_t kAtOnce = 64UL * 1024 * 1024;

}  // namespace

void PoisonOwed(Userfaultfd* uffd, FaultServer* server, const Registration& registration,
                std::chrono::steady_clock::time_point deadline,
                const std::function<void()>& changing) noexcept {
  const Policy& policy = *registration.policy;
  if (!policy.OwesBytes() || !policy.poison) return;
  const bool armed = (policy.mode & UFFDIO_REGISTER_MODE_WP) != 0;
  uint64_t most = std::max(kAtOnce, policy.page_size);
  uint64_t from = registration.range.start;
  while (std::chrono::steady_clock::now() < deadline) {
    const Range owed = server->NextOwed(registration, from, most);
    if (owed.Empty()) return;
    from = owed.start;
    // An armed page that does not exist yet counts as existing.
    if (armed) static_cast<void>(uffd->WriteProtect(owed, UFFDIO_WRITEPROTECT_MODE_DONTWAKE).Ok());
    const Partial done = uffd->Poison(owed, 0);
    from += static_cast<uint64_t>(done.bytes);
    if (done.error == 0) {
      most = std::max(kAtOnce, policy.page_size);
    } else if (done.error == EAGAIN && done.bytes == 0) {
      changing();
    } else if (done.error == ENOENT && owed.Length() > policy.page_size) {
      most = policy.page_size;  // of several mappings
    } else if (done.error != EAGAIN) {
      from += policy.page_size;  // it is there, or not ours any more
    }
  }
}

}  // namespace uffd
