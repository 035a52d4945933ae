// Who wrote: the first write to each page since it was armed, in the order they came. Bounded, and
// what does not fit is counted. Pages are known without it.
#ifndef UFFD_CORE_WRITE_LOG_H_
#define UFFD_CORE_WRITE_LOG_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/range.h"

namespace uffd {

struct Write {
  uint64_t address;    // of the byte where the kernel tells it, else of its page
  uint32_t thread_id;  // gettid(2); 0 where the kernel does not tell
};

class WriteLog {
 public:
  static constexpr size_t kCapacity = 16'384;

  void Add(Write write) {
    if (writes_.size() < kCapacity) {
      writes_.push_back(write);
    } else {
      missed_++;
    }
  }
  void AddMissed(uint64_t count) noexcept { missed_ += count; }
  // Those of `other` that lie in `bounds`. What it missed may lie there, too.
  void AddWithin(Range bounds, const WriteLog& other) {
    for (const Write& write : other.writes_) {
      if (bounds.Contains({write.address, write.address + 1})) Add(write);
    }
    missed_ += other.missed_;
  }
  void Clear() noexcept {
    writes_.clear();
    missed_ = 0;
  }

  bool Empty() const noexcept { return writes_.empty() && missed_ == 0; }
  const std::vector<Write>& Writes() const noexcept { return writes_; }
  uint64_t Missed() const noexcept { return missed_; }

 private:
  std::vector<Write> writes_;
  uint64_t missed_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_WRITE_LOG_H_
