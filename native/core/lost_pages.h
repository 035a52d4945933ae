// Pages that a lazy load could not fill, and that it poisoned: a touch of one is SIGBUS. Whoever
// reads memory for the program asks here first, and whoever overwrites all of it makes it good.
#ifndef UFFD_CORE_LOST_PAGES_H_
#define UFFD_CORE_LOST_PAGES_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "core/range.h"
#include "core/result.h"

namespace uffd {

class LostPages {
 public:
  static LostPages& Get() noexcept;  // never destroyed

  // Before they are poisoned, with the load still in the HolderList: who finished that finds them.
  void Add(const RangeSet& pages, uint64_t page_size) noexcept;
  // They are other pages now.
  void Forget(Range pages) noexcept;

  // EHWPOISON when reading all of `bytes` would touch one. Waits for loads of them (test 69, B20).
  Status Check(Range bytes) noexcept;
  // For who is about to write all of `bytes`: those in it are zeros then, and in `emptied`.
  // EHWPOISON when one of them has other bytes too, which nobody would write.
  Status Empty(Range bytes, RangeSet* emptied) noexcept;

 private:
  struct Lost {
    Range pages;
    uint64_t page_size;
  };

  LostPages() = default;
  std::vector<Lost> Find(Range bytes) noexcept;

  std::atomic<bool> any_{false};
  std::mutex mutex_;
  std::map<uint64_t, RangeSet> pages_;  // by page size
};

}  // namespace uffd

#endif  // UFFD_CORE_LOST_PAGES_H_
