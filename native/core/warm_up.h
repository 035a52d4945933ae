// Has memory that is going to be used made to exist by another thread, so that its user has no page
// faults.
#ifndef UFFD_CORE_WARM_UP_H_
#define UFFD_CORE_WARM_UP_H_

#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include "core/slot_store.h"

namespace uffd {

class WarmUp {
 public:
  struct Slots {
    std::vector<SlotStore::Cold> pages;
    std::vector<SlotStore::Cold> tables;
  };

  explicit WarmUp(Slots slots) noexcept : slots_(std::move(slots)) {}

  // On any thread. False: there is nothing left.
  bool Step() noexcept;
  // What exists now; no more will. Waits for one step at most.
  Slots Stop() noexcept;

 private:
  std::mutex mutex_;  // held for a step
  Slots slots_;
  // Of them.
  size_t pages_done_ = 0;
  size_t tables_done_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_WARM_UP_H_
