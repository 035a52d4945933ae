#include "core/owed_pages.h"

#include <algorithm>
#include <cerrno>

#include "core/kernel_abi.h"

namespace uffd {
namespace {

// By one ioctl, during which the memory cannot change.
constexpr uint64_t kAtOnce = 64UL * 1024 * 1024;

}  // namespace

// What exists already is found page by page, with no more than a refused call or two for each: the
// number of pages that are tried at once doubles with each success.
void PoisonOwed(Userfaultfd* uffd, FaultServer* server, const Registration& registration,
                const std::function<bool()>& over, const std::function<void()>& changing) noexcept {
  const Policy& policy = *registration.policy;
  if (!policy.OwesBytes() || !policy.poison) return;
  const uint64_t page = policy.page_size;
  const bool armed = (policy.mode & UFFDIO_REGISTER_MODE_WP) != 0;
  uint64_t most = std::max(kAtOnce, page);
  uint64_t from = registration.range.start;
  while (!over()) {
    const Range owed = server->NextOwed(registration, from, most);
    if (owed.Empty()) return;
    from = owed.start;
    if (owed.Length() == page) {
      const Outcome outcome = server->Resolver().Poison(owed).outcome;
      if (outcome == Outcome::kDeferred) {
        changing();
        continue;
      }
      // Else it is there, or not ours any more.
      from = owed.end;
      most = outcome == Outcome::kResolved ? 2 * page : page;
      continue;
    }
    // An armed page that does not exist counts as existing.
    const Status disarmed =
        armed ? uffd->WriteProtect(owed, UFFDIO_WRITEPROTECT_MODE_DONTWAKE) : Status(Done{});
    const Partial done = disarmed ? uffd->Poison(owed, 0) : Partial{0, disarmed.Error().error};
    from += static_cast<uint64_t>(done.bytes);
    if (done.error == 0) {
      most = std::min(2 * most, std::max(kAtOnce, page));
    } else if (done.error == EAGAIN && done.bytes == 0) {
      changing();
    } else if (done.error != EAGAIN) {
      most = page;
    }
  }
}

}  // namespace uffd
