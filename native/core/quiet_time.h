// Whether nobody wrote the memory of this process while something was done, told by that nobody had
// a processor to do so: the cost is that of a few files for each thread, whatever memory there is.
//
// Another process that writes into this one is not seen: ptrace(2), process_vm_writev(2), one that
// clone(2) gave the same memory.
#ifndef UFFD_CORE_QUIET_TIME_H_
#define UFFD_CORE_QUIET_TIME_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace uffd {

class QuietTime {
 public:
  // The other threads of this process sleep. Helpers do not count: what they write is only this
  // package's. False: one does not, there are more than `most_threads`, or nobody can tell. On
  // Linux before 5.16, where a thread that is about to sleep seems to, nobody may ask.
  bool Begin(uint64_t most_threads) noexcept;
  // Since Begin, which was true, they all slept, and this thread had no page fault: io_uring(7) may
  // complete a read in any system call of it.
  bool Lasted() const noexcept;

 private:
  static constexpr size_t kMostThreads = 64;  // a file is kept open for each
  class Threads;

  static uint64_t FaultsOfThisThread() noexcept;

  std::array<uint64_t, kMostThreads> runs_{};
  uint64_t list_ = 0;  // of which threads
  uint64_t faults_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_QUIET_TIME_H_
