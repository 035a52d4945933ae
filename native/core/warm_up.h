// Has memory that is going to be used made to exist by another thread, so that its user has no page
// faults.
#ifndef UFFD_CORE_WARM_UP_H_
#define UFFD_CORE_WARM_UP_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "core/slot_store.h"

namespace uffd {

class WarmUp {
 public:
  using Slots = std::vector<SlotStore::Cold>;

  WarmUp(Slots pages, Slots tables) noexcept
      : pages_(std::move(pages)), tables_(std::move(tables)) {}

  bool Empty() const noexcept { return pages_.empty() && tables_.empty(); }
  // When it has run.
  const Slots& Pages() const noexcept { return pages_; }
  const Slots& Tables() const noexcept { return tables_; }

  // Once, on any thread.
  void Run() noexcept;
  // Whoever runs it lets go of the memory. Waits for one step at most.
  void Stop() noexcept;

 private:
  // False when there is nothing left.
  bool Step(const Slots& all, size_t* index, uint64_t* done) noexcept;

  std::mutex mutex_;  // held for a step
  Slots pages_;
  Slots tables_;
};

}  // namespace uffd

#endif  // UFFD_CORE_WARM_UP_H_
