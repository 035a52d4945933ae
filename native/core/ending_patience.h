// How long whoever ends registrations waits for the loop to end the faults in them.
#ifndef UFFD_CORE_ENDING_PATIENCE_H_
#define UFFD_CORE_ENDING_PATIENCE_H_

#include <chrono>
#include <cstdint>

#include "core/fault_server.h"

namespace uffd {

class EndingPatience {
 public:
  using Clock = std::chrono::steady_clock;
  // The end of the process, or of a Worker that it may be part of, has two seconds for everything.
  enum class Haste { kNone, kEnding };

  // `owes`: the faults would read as zeros that are not. A source is waited for as long as a lazy
  // restore waits for its file, and each page that it gives begins that anew; but not for ever: a
  // loop may read the same page again and again while the kernel has no memory for it.
  EndingPatience(const FaultServer* server, bool owes, Haste haste,
                 Clock::time_point since) noexcept;
  bool Holds() noexcept;

 private:
  Clock::duration Limit() const noexcept;

  const FaultServer* const server_;
  const bool owes_;
  Haste haste_;
  Clock::time_point since_;
  uint64_t seen_steps_;
  int renewals_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_ENDING_PATIENCE_H_
