// Who holds memory for a while, to capture it or to load it: whoever wants to track such memory has
// that finished first, for memory has one userfaultfd at a time, and what is not loaded yet looks
// like zeros that nobody wrote.
#ifndef UFFD_CORE_HOLDER_LIST_H_
#define UFFD_CORE_HOLDER_LIST_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/capture.h"
#include "core/range.h"

namespace uffd {

class HolderList {
 public:
  struct Entry {
    std::vector<Range> memories;
    std::vector<std::shared_ptr<Capture>> captures;  // of them; none when they are being loaded
    // Under the list's lock.
    bool hurry = false;
    bool over = false;
    std::thread::id ending;  // the thread that lets go of the memory and tracks it instead
  };

  static HolderList& Get() noexcept;  // never destroyed

  std::shared_ptr<Entry> AddCaptures(std::vector<std::shared_ptr<Capture>> captures);
  // Returns when nobody else holds anything of them any more.
  std::shared_ptr<Entry> AddLoad(std::vector<Range> memories);
  // This thread, which may track the memory now: nobody else comes in between.
  void BeginEnding(Entry* entry) noexcept;
  void Remove(Entry* entry) noexcept;
  bool IsHurried(const Entry& entry) noexcept;
  // Before this range is given back to the kernel: what of it is being captured is captured first.
  void BeforeDiscard(Range range) noexcept;
  // Returns when nobody holds anything of `range` any more, but what this thread itself is ending.
  void Finish(Range range) noexcept;
  // The same of loads only: for who reads the memory as it is.
  void FinishLoads(Range range) noexcept;

 private:
  HolderList() = default;
  template <typename Holds>
  void FinishWhere(Holds holds) noexcept;
  // The same under the lock, which is held again when it returns.
  template <typename Holds>
  void AwaitNone(std::unique_lock<std::mutex>* lock, Holds holds) noexcept;
  static bool Overlaps(const Entry& entry, Range range) noexcept;
  std::mutex mutex_;
  std::condition_variable removed_;
  std::vector<std::shared_ptr<Entry>> entries_;
};

}  // namespace uffd

#endif  // UFFD_CORE_HOLDER_LIST_H_
