#include "core/owed_pages.h"

#include <algorithm>
#include <cerrno>

#include "core/kernel_abi.h"

namespace uffd {
namespace {

// By one ioctl, during which the memory cannot change.
constexpr uint64_t kAtOnce = 64UL * 1024 * 1024;

// An armed page that does not exist counts as existing, so the marks are removed first, from the
// first byte of `memory` on. How far that came: a page at least, however the kernel answers.
uint64_t Disarm(Userfaultfd* uffd, Range memory, uint64_t page_size) noexcept {
  const Range part{memory.start, std::min(memory.end, memory.start + std::max(kAtOnce, page_size))};
  const auto disarm = [&](Range pages) {
    return uffd->WriteProtect(pages, UFFDIO_WRITEPROTECT_MODE_DONTWAKE).Ok();
  };
  if (disarm(part)) return part.end;
  // It may be of several mappings.
  const Range page{memory.start, memory.start + page_size};
  static_cast<void>(disarm(page));
  return page.end;
}

}  // namespace

// What exists already is found page by page, with no more than a refused ioctl for each: the number
// of pages that are tried at once doubles with each success.
void PoisonOwed(Userfaultfd* uffd, FaultServer* server, const Registration& registration,
                const std::function<bool()>& over, const std::function<void()>& changing) noexcept {
  const Policy& policy = *registration.policy;
  if (!policy.OwesBytes() || !policy.poison) return;
  const bool armed = (policy.mode & UFFDIO_REGISTER_MODE_WP) != 0;
  uint64_t most = std::max(kAtOnce, policy.page_size);
  uint64_t from = registration.range.start;
  uint64_t disarmed = armed ? from : registration.range.end;
  while (!over()) {
    Range owed = server->NextOwed(registration, from, most);
    if (owed.Empty()) return;
    from = owed.start;
    if (from >= disarmed) disarmed = Disarm(uffd, {from, registration.range.end}, policy.page_size);
    owed.end = std::min(owed.end, disarmed);
    const Partial done = uffd->Poison(owed, 0);
    from += static_cast<uint64_t>(done.bytes);
    if (done.error == 0) {
      most = std::min(2 * most, std::max(kAtOnce, policy.page_size));
    } else if (done.error == EAGAIN && done.bytes == 0) {
      changing();
      if (armed) disarmed = from;
    } else if (done.error != EAGAIN) {
      // It is there, or not ours any more; or (ENOENT) of several mappings.
      if (done.error != ENOENT || owed.Length() <= policy.page_size) from += policy.page_size;
      most = policy.page_size;
    }
  }
}

}  // namespace uffd
