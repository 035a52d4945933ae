#include "core/fault_resolver.h"

#include <cerrno>
#include <utility>

#include "core/kernel_abi.h"
#include "core/pagemap.h"

namespace uffd {

// `fill(whether it must be armed)`, before which nobody begins to arm the page.
template <typename FillPage>
Partial FaultResolver::WhileMarked(Range page, const Registration& registration, bool arm,
                                   FillPage fill) noexcept {
  if (arm || (registration.policy->mode & UFFDIO_REGISTER_MODE_WP) == 0) return fill(arm);
  const std::lock_guard<std::mutex> lock(marking_);
  bool armed = MayBeArmed(page);
  for (const Arming* each = arming_; each != nullptr; each = each->next) {
    armed = armed || each->pages.Overlaps(page);
  }
  return fill(armed);
}

bool FaultResolver::MayBeArmed(Range page) const noexcept {
  return memory_ == Memory::kChild || Pagemap::IsArmed(page.start);
}

Status FaultResolver::WriteProtect(Range pages, uint64_t mode) noexcept {
  if ((mode & UFFDIO_WRITEPROTECT_MODE_WP) == 0) return uffd_->WriteProtect(pages, mode);
  Arming arming{pages};
  {
    const std::lock_guard<std::mutex> lock(marking_);
    arming.next = std::exchange(arming_, &arming);
  }
  Status done = uffd_->WriteProtect(pages, mode);
  const std::lock_guard<std::mutex> lock(marking_);
  Arming** at = &arming_;
  while (*at != &arming) at = &(*at)->next;
  *at = arming.next;
  return done;
}

FaultResolver::Answer FaultResolver::Unprotect(Range page) noexcept {
  const Status done = uffd_->WriteProtect(page, 0);
  return AnswerOf(done ? 0 : done.Error().error, page, Action::kUnprotect);
}

FaultResolver::Answer FaultResolver::Fill(Range page, const uint8_t* bytes,
                                          const Registration& registration, bool arm) noexcept {
  // ZEROPAGE takes an armed page that does not exist yet for one that does, and hugetlb has none.
  const bool zeropage = (registration.ioctls & (uint64_t{1} << _UFFDIO_ZEROPAGE)) != 0;
  const Partial done = WhileMarked(page, registration, arm, [&](bool armed) {
    if (bytes == nullptr && zeropage && !armed) return uffd_->Zeropage(page, 0);
    const uint8_t* const from = bytes == nullptr ? registration.policy->zeros : bytes;
    return uffd_->Copy(page, from, armed ? UFFDIO_COPY_MODE_WP : 0);
  });
  return AnswerOf(done.error, page, bytes == nullptr ? Action::kZeropage : Action::kCopy);
}

FaultResolver::Answer FaultResolver::FillMissing(Range page, const Result<const uint8_t*>& loaded,
                                                 const Registration& registration) noexcept {
  const Policy& policy = *registration.policy;
  if (policy.source && loaded) {
    const Answer answer = Fill(page, loaded.Value(), registration, false);
    // A mapped file that became shorter has no bytes there: the source failed (test 33, B3).
    if (answer.error != EFAULT) return answer;
  }
  return policy.poison ? Poison(page) : Fill(page, nullptr, registration, false);
}

FaultResolver::Answer FaultResolver::Poison(Range page) noexcept {
  Partial done = uffd_->Poison(page, 0);
  if (done.error == EEXIST && MayBeArmed(page)) {
    // An armed page that does not exist yet counts as existing here too.
    const Status bare = uffd_->WriteProtect(page, UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
    if (!bare && bare.Error().error == EAGAIN) return AnswerOf(EAGAIN, page, Action::kNone);
    done = uffd_->Poison(page, 0);
  }
  return AnswerOf(done.error, page, Action::kPoison);
}

FaultResolver::Answer FaultResolver::Continue(Range page, const Registration& registration,
                                              bool arm) noexcept {
  const Partial done = WhileMarked(page, registration, arm, [&](bool armed) {
    return uffd_->Continue(page, armed ? UFFDIO_CONTINUE_MODE_WP : 0);
  });
  const int error = done.error;
  // Gone from the page cache since (another mapping gave it back): the thread faults anew, and it
  // is a missing page now (test 34).
  return error == EFAULT ? Wake(page) : AnswerOf(error, page, Action::kContinue);
}

FaultResolver::Answer FaultResolver::Wake(Range page) noexcept {
  static_cast<void>(uffd_->Wake(page).Ok());
  return {Outcome::kDiscarded, Action::kWake, 0};
}

FaultResolver::Answer FaultResolver::AnswerOf(int error, Range page, Action action) noexcept {
  switch (error) {
    case 0:
      return {Outcome::kResolved, action, 0};
    case EAGAIN:
    case ENOMEM:  // the kernel may free some; the thread waits as it would in any fault
      return {Outcome::kDeferred, Action::kNone, error};
    case EEXIST:  // without the wake the thread that lost the race would sleep on (test 30, D8)
      static_cast<void>(uffd_->Wake(page).Ok());
      return {Outcome::kAlreadyPresent, Action::kWake, error};
    case ENOENT:  // unregistered or unmapped meanwhile
    case ESRCH:   // the process is ending
      static_cast<void>(uffd_->Wake(page).Ok());
      return {Outcome::kDiscarded, Action::kWake, error};
    default:
      return {Outcome::kFailed, Action::kNone, error};
  }
}

}  // namespace uffd
