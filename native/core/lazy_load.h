// Loads memories from snapshot files while the program runs on: a page that is touched before it is
// there is read from its file at once, the others in the background.
//
//   program thread              resolver (loop, or the touching thread)    background thread
//   Start: register, empty all  holds every touch
//   all are empty: begin        reads the page, checks it, installs it     the same with the
//   others, touches, discards           ...                                        and makes room
//   for faults
//                                                                          all there: unregisters,
//                                                                          ends
//
// Memory that is tracked (wp-async) stays so, by the marks of this userfaultfd: what is loaded
// comes armed. It is kept registered then as long as it is tracked.
//
// Nothing ends it but that all is loaded: not that its JavaScript object went, nor the end of the
// environment or of the process, during which threads still run. What cannot be loaded, because a
// file is damaged or gone, is poisoned: who touches it gets SIGBUS, and nobody zeros.
#ifndef UFFD_CORE_LAZY_LOAD_H_
#define UFFD_CORE_LAZY_LOAD_H_

#include <pthread.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/holder_list.h"
#include "core/lazy_memory.h"
#include "core/page_keeper.h"
#include "core/session.h"
#include "core/sigbus_resolver.h"

namespace uffd {

class LazyLoad final : public PageKeeper, public std::enable_shared_from_this<LazyLoad> {
 public:
  enum class Resolver { kLoop, kInThread };
  struct Options {
    Resolver resolver = Resolver::kLoop;
    uint64_t bytes_per_second = 0;  // of the background; 0: as fast as it goes
  };
  struct Memory {
    Range pages;
    uint64_t page_size = 0;
    std::shared_ptr<Mapping> mapping;  // null: somebody else may unmap it at any moment
  };
  struct Started;

  // `order`: what the background loads first. `over` runs once, on another thread, when all is
  // loaded or it failed.
  static Started Start(const std::vector<Memory>& memories,
                       const std::shared_ptr<const SnapshotPages>& pages,
                       std::vector<LoadState::Touch> order, const Options& options,
                       std::function<void()> over) noexcept;
  LazyLoad(const LazyLoad&) = delete;
  LazyLoad& operator=(const LazyLoad&) = delete;
  ~LazyLoad() override = default;

  // PageKeeper. The second by whoever tracks, also long after it is over.
  Status Arm(Range pages) noexcept override;
  void Disarm(Range pages) noexcept override;

  const LoadState& State() const noexcept { return *state_; }
  // Whoever was let go on before this call is in what the state tells.
  void AwaitTouches() noexcept { static_cast<void>(session_->AwaitEvents()); }
  uint64_t PageBytes(size_t memory) const noexcept { return parts_[memory].memory.page_size; }
  bool IsOver() const noexcept { return over_.load(); }
  // Loads the rest as fast as it goes and returns when it is over.
  void Complete() noexcept;
  // `over` is not called from now on.
  void Forget() noexcept;

 private:
  class TouchServer;
  struct Part {
    Memory memory;
    std::shared_ptr<LazyMemory> loader;
    Registration registration;
    bool tracked = false;
    std::unique_ptr<InThreadServer> server;
    std::unique_ptr<SigbusResolver> resolver;  // goes before its server
  };

  LazyLoad(std::shared_ptr<Session> session, std::shared_ptr<LoadState> state,
           std::vector<LoadState::Touch> order, const Options& options,
           std::function<void()> over) noexcept;
  static Status Prepare(const std::vector<Memory>& memories, bool* tracked) noexcept;
  Status AddParts(const std::vector<Memory>& memories,
                  const std::shared_ptr<const SnapshotPages>& pages) noexcept;
  Status Register(Part* part) noexcept;
  Status HandOver(Part* part) noexcept;
  Status Empty() noexcept;
  static Status Empty(const Memory& memory) noexcept;
  static void* ThreadMain(void* self) noexcept;
  // True: everything may begin. False: it was given up.
  bool AwaitBegin() noexcept;
  void Begin(bool empty) noexcept;
  bool Fill() noexcept;
  bool FillInOrder() noexcept;
  bool FillPart(Part* part) noexcept;
  void FillHoles(Part* part) noexcept;
  bool FillSome(Part* part, uint64_t page, uint64_t count) noexcept;
  bool MakeRoom(const Part& part, uint64_t first, uint64_t last) noexcept;
  bool IsAnyWanted(const Part& part, uint64_t first, uint64_t last) const noexcept;
  bool IsHurried() noexcept;
  void End(bool loaded) noexcept;
  void NoteLost() noexcept;
  void LetGo() noexcept;
  void LetGoOfAll() noexcept;
  void LetGoOfUntracked() noexcept;
  void Unregister(Range pages) noexcept;

  const Options options_;
  const std::shared_ptr<Session> session_;
  const std::shared_ptr<LoadState> state_;
  std::vector<LoadState::Touch> order_;
  std::vector<Part> parts_;
  std::shared_ptr<Mapping> buffer_;  // of the background
  std::shared_ptr<HolderList::Entry> entry_;
  bool emptied_ = false;  // some of the memories, or all

  // What is tracked, and whether the load is over: under a lock of their own, for those who track
  // call with theirs.
  std::mutex keeping_;
  RangeSet kept_;
  bool ended_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  enum class Phase { kEmptying, kLoading, kGivenUp };
  Phase phase_ = Phase::kEmptying;
  std::function<void()> when_over_;
  std::atomic<bool> over_{false};
};

struct LazyLoad::Started {
  std::shared_ptr<LazyLoad> load;  // null: see the rest
  std::vector<Attempt> attempts;
  uint64_t missing_features = 0;
  Failure failure;
};

}  // namespace uffd

#endif  // UFFD_CORE_LAZY_LOAD_H_
