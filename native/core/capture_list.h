// The captures under way in this process: whoever wants to track memory that is being captured has
// its capture finished first, for memory has one userfaultfd at a time.
#ifndef UFFD_CORE_CAPTURE_LIST_H_
#define UFFD_CORE_CAPTURE_LIST_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/capture.h"
#include "core/range.h"

namespace uffd {

class CaptureList {
 public:
  struct Entry {
    std::vector<std::shared_ptr<Capture>> captures;
    // Under the list's lock.
    bool hurry = false;
    bool over = false;
    std::thread::id ending;  // the thread that lets go of the memory and tracks it instead
  };

  static CaptureList& Get() noexcept;  // never destroyed

  std::shared_ptr<Entry> Add(std::vector<std::shared_ptr<Capture>> captures);
  // This thread, which may track the memory now: nobody else comes in between.
  void BeginEnding(Entry* entry) noexcept;
  void Remove(Entry* entry) noexcept;
  bool IsHurried(const Entry& entry) noexcept;
  // Before this range is given back to the kernel: what of it is being captured is captured first.
  void BeforeDiscard(Range range) noexcept;
  // Returns when nothing of `range` is being captured any more, but by what this thread itself is
  // ending.
  void Finish(Range range) noexcept;

 private:
  CaptureList() = default;
  static bool Overlaps(const Entry& entry, Range range) noexcept;
  std::mutex mutex_;
  std::condition_variable removed_;
  std::vector<std::shared_ptr<Entry>> entries_;
};

}  // namespace uffd

#endif  // UFFD_CORE_CAPTURE_LIST_H_
