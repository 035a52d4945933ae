#include "core/warm_up.h"

#include <algorithm>

namespace uffd {

void WarmUp::Run() noexcept {
  for (const Slots* all : {&pages_, &tables_}) {
    size_t index = 0;
    uint64_t done = 0;
    while (Step(*all, &index, &done)) {
    }
  }
}

bool WarmUp::Step(const Slots& all, size_t* index, uint64_t* done) noexcept {
  // As long as the kernel is at it, nobody can map or unmap anything.
  constexpr uint64_t kPages = 64;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (*index >= all.size()) return false;
  const SlotStore::Cold& slots = all[*index];
  const uint64_t start = slots.bytes.start + *done;
  const Range step{start, std::min(start + kPages * PageSize(), slots.bytes.end)};
  // What the kernel refuses (before Linux 5.14) comes into being when it is written.
  static_cast<void>(MakeExist(step).Ok());
  *done += step.Length();
  if (step.end == slots.bytes.end) {
    ++*index;
    *done = 0;
  }
  return true;
}

void WarmUp::Stop() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  pages_.clear();
  tables_.clear();
}

}  // namespace uffd
