// Ends one fault by the ioctl that answers it, and says what the kernel made of it.
#ifndef UFFD_CORE_FAULT_RESOLVER_H_
#define UFFD_CORE_FAULT_RESOLVER_H_

#include <cstdint>
#include <mutex>

#include "core/fault.h"
#include "core/registration_table.h"
#include "core/userfaultfd.h"

namespace uffd {

// Every fault that was read ends in exactly one of these.
enum class Outcome : uint8_t {
  kResolved,        // this loop ended it
  kHandedOver,      // a handler in JavaScript is to end it; until then it is among the OpenFaults
  kAttached,        // its page has an open fault already, whose end wakes this thread too
  kAlreadyPresent,  // somebody else ended it; the thread was woken
  kDeferred,        // the mapping is changing: read its event first, then try again
  kDiscarded,       // its thread was woken by others since, or the range unregistered
  kFailed,          // the descriptor is unusable
};

class FaultResolver {
 public:
  struct Answer {
    Outcome outcome;
    Action action;
    int error;
  };

  // A forked child's page tables cannot be looked at.
  enum class Memory { kOwn, kChild };

  explicit FaultResolver(Userfaultfd* uffd, Memory memory = Memory::kOwn) noexcept
      : uffd_(uffd), memory_(memory) {}

  // Sets the mark of these pages, or (mode 0) removes it.
  Status WriteProtect(Range pages, uint64_t mode) noexcept;
  Answer Unprotect(Range page) noexcept;
  // With zeros where `bytes` is null. Armed when `arm` says so, or when it was armed before.
  Answer Fill(Range page, const uint8_t* bytes, const Registration& registration,
              bool arm) noexcept;
  // A missing page, as its registration says. `loaded`: what its source gave.
  Answer FillMissing(Range page, const Result<const uint8_t*>& loaded,
                     const Registration& registration) noexcept;
  Answer Poison(Range page) noexcept;
  // Armed as Fill does.
  Answer Continue(Range page, const Registration& registration, bool arm) noexcept;
  Answer Wake(Range page) noexcept;
  // What this errno (0 for none) of an answering ioctl means.
  Answer AnswerOf(int error, Range page, Action action) noexcept;

 private:
  // A page that is armed must be filled armed, in one step: else its mark is dropped (test 30,
  // B16).
  template <typename FillPage>
  Partial WhileMarked(Range page, const Registration& registration, bool arm,
                      FillPage fill) noexcept;
  // Of a child's page that is not known: one fault too many does no harm.
  bool MayBeArmed(Range page) const noexcept;

  Userfaultfd* const uffd_;
  const Memory memory_;
  // What is being armed now. A page of it that is filled meanwhile may be armed before or after,
  // which nobody can tell, so it is filled armed (test 33, B16).
  struct Arming {
    Range pages;
    Arming* next = nullptr;
  };
  std::mutex marking_;  // held for no longer than a page takes
  Arming* arming_ = nullptr;
};

}  // namespace uffd

#endif  // UFFD_CORE_FAULT_RESOLVER_H_
