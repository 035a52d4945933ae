// Capturing memories while the program runs on: arms all of them, which is the instant, and then
// copies page by page in the background, each page before its first write.
//
//   program thread            resolver (loop, or the writing thread)      sweep thread
//   Start: register, arm all  holds every write
//   the cut is complete       captures a page, lets its write go          captures the others
//   writes, reads, restores   ...                                         all captured: `finished`
//
// The pages stay armed until all is captured, so that what was written since is known.
#ifndef UFFD_CORE_COPY_ON_WRITE_H_
#define UFFD_CORE_COPY_ON_WRITE_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/capture.h"
#include "core/cut.h"
#include "core/holder_list.h"
#include "core/session.h"
#include "core/sigbus_resolver.h"

namespace uffd {

class CopyOnWrite {
 public:
  enum class Resolver { kLoop, kInThread };
  struct Options {
    Resolver resolver = Resolver::kLoop;
    uint64_t max_bytes = UINT64_MAX;  // of pages stored
    uint64_t bytes_per_second = 0;    // of the sweep; 0: as fast as it goes
  };
  struct Part {
    Capture::Memory memory;
    std::shared_ptr<Mapping> copy;
  };
  struct Started;

  // Returning is the instant. `loop` needs the privilege to serve faults inside system calls.
  static Started Start(std::vector<Part> parts, const Options& options) noexcept;
  CopyOnWrite(const CopyOnWrite&) = delete;
  CopyOnWrite& operator=(const CopyOnWrite&) = delete;
  ~CopyOnWrite();

  // Begins to copy. `finished` runs on the sweep's thread when all is captured, or Error() says why
  // not; it calls Release() and Leave().
  Status Sweep(std::function<void()> finished) noexcept;
  // Nothing is armed any more when it returns. Called once all is captured, or to give up.
  void Release() noexcept;
  // After Release: whoever waits for this capture to be over may have the memory.
  void Leave() noexcept;

  // 0, or why this is no copy of one instant.
  int Error() const noexcept;
  // Every change that happened before this call is in what the captures tell.
  void AwaitEvents() noexcept { static_cast<void>(session_->AwaitEvents()); }
  Cut::Progress Progress() const noexcept { return cut_->Read(); }
  const std::shared_ptr<Capture>& At(size_t memory) const noexcept { return captures_[memory]; }

 private:
  CopyOnWrite(std::shared_ptr<Session> session, std::shared_ptr<Cut> cut,
              const Options& options) noexcept;
  Status Arm(std::vector<Part> parts, bool was_idle) noexcept;
  Status Register(const Capture::Memory& memory, const std::shared_ptr<Capture>& capture) noexcept;
  static void* ThreadMain(void* self) noexcept;
  void SweepAll() noexcept;
  bool SweepOne(Capture* capture) noexcept;
  bool Pace(uint64_t swept_bytes) noexcept;

  const Options options_;
  std::shared_ptr<Session> session_;
  std::shared_ptr<Cut> cut_;
  std::vector<std::shared_ptr<Capture>> captures_;
  // In-thread. The resolvers go first.
  std::vector<std::unique_ptr<InThreadServer>> servers_;
  std::vector<std::unique_ptr<SigbusResolver>> resolvers_;
  std::shared_ptr<HolderList::Entry> entry_;
  std::function<void()> finished_;

  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;
  bool sweeping_ = false;  // the thread is to be joined
  std::atomic<bool> releasing_{false};
  pthread_t thread_{};
};

struct CopyOnWrite::Started {
  std::unique_ptr<CopyOnWrite> capturing;  // null: see the rest
  std::vector<Attempt> attempts;
  uint64_t missing_features = 0;
  Failure failure;
};

}  // namespace uffd

#endif  // UFFD_CORE_COPY_ON_WRITE_H_
