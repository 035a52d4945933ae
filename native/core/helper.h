// A second thread that takes part in what this one does, on another processor. Between two tasks it
// rests, and is awake at first: to wake it takes half of what a new thread would.
#ifndef UFFD_CORE_HELPER_H_
#define UFFD_CORE_HELPER_H_

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>

namespace uffd {

class Helper {
 public:
  // What both threads do.
  class Work {
   public:
    virtual ~Work() = default;
    // Does a part of it, and writes no memory that a program can see (QuietTime relies on it).
    // False: there is none now.
    virtual bool DoPart() noexcept = 0;
  };

  // Whether one would have a processor, as far as it can be told.
  static bool HasProcessor() noexcept;
  // The same for one who asks again and again. Who waits for the very processor of this thread
  // counts like one that has another, so that a machine with an idle one may seem to have none: it
  // is believed when it is told often in a row.
  class Chance {
   public:
    bool HasProcessor() noexcept;

   private:
    unsigned busy_in_a_row_ = 0;
  };

  Helper() = default;
  ~Helper() { End(); }
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  // One does all of it while this thread goes on, and then lets go of it: when it has a processor,
  // for nobody waits. False: there is no thread for it.
  static bool HandOff(std::unique_ptr<Work> work) noexcept;
  // Whether that thread (gettid(2)) is one of them all.
  static bool Is(pid_t thread) noexcept;
  // Whoever waits for what was handed off leaves its processor to those that are at work.
  static void ComeHere() noexcept;

  // False: there is no other processor, no thread for it, or nobody has run the last one that was
  // called off. `work` is called until End at most.
  bool Start(Work* work) noexcept;
  bool IsStarted() const noexcept { return thread_ != nullptr; }
  // Waits for the part that it is at, and tells how long. One that has not begun yet is called off
  // and not waited for: nothing.
  std::optional<std::chrono::nanoseconds> End() noexcept;

#ifdef UFFD_TEST_BARRIERS
  // How many do not rest. Those that were called off do when they have noticed.
  static int AtWork() noexcept;
#endif

 private:
  class Thread;
  class Threads;

  Thread* thread_ = nullptr;
};

}  // namespace uffd

#endif  // UFFD_CORE_HELPER_H_
