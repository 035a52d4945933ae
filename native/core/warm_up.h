// Has memory that is going to be used made to exist by another thread, so that its user has no page
// faults.
#ifndef UFFD_CORE_WARM_UP_H_
#define UFFD_CORE_WARM_UP_H_

#include <atomic>
#include <cstddef>
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

  // By one thread, any. False: there is nothing left.
  bool Step() noexcept;
  // What exists now. Nobody waits for the step that is under way: it changes no content, and the
  // mappings live until it is over.
  Slots Stop() noexcept;

 private:
  const Slots slots_;
  std::atomic<size_t> done_{0};
  std::atomic<bool> is_stopped_{false};
};

}  // namespace uffd

#endif  // UFFD_CORE_WARM_UP_H_
