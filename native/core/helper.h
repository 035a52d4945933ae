// A second thread that takes part in what this one does, on another processor.
#ifndef UFFD_CORE_HELPER_H_
#define UFFD_CORE_HELPER_H_

#include <pthread.h>

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
    // Does a part of it. False: there is none now.
    virtual bool DoPart() noexcept = 0;
  };

  Helper() = default;
  ~Helper() { End(); }
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  // False: there is no other processor, no thread for it, or nobody has run the last one that was
  // called off. The thread has `work` for as long as it lives, and calls it until End at most.
  bool Start(const char* name, std::shared_ptr<Work> work) noexcept;
  bool IsStarted() const noexcept { return thread_ != nullptr; }
  // Waits for the part that it is at, and tells how long. One that has not begun yet is called off
  // and not waited for: nothing.
  std::optional<std::chrono::nanoseconds> End() noexcept;

 private:
  class Thread;

  std::shared_ptr<Thread> thread_;  // one that is called off has it for longer
  pthread_t id_{};
};

}  // namespace uffd

#endif  // UFFD_CORE_HELPER_H_
