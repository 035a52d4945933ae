// One memory that is loaded from a snapshot file: which of its pages are there, and what has been
// touched. Knows no userfaultfd.
#ifndef UFFD_CORE_LAZY_MEMORY_H_
#define UFFD_CORE_LAZY_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/mapping.h"
#include "core/page_loader.h"
#include "core/result.h"
#include "core/snapshot_pages.h"

namespace uffd {

// What the memories of one load share. All of it may be called from a signal handler.
class LoadState {
 public:
  struct Progress {
    uint64_t filled = 0;   // pages, by the background
    uint64_t touched = 0;  // pages that somebody waited for
    uint64_t bytes = 0;    // of both
    uint64_t waited_ns = 0;
    uint64_t longest_wait_ns = 0;
  };
  // A page that somebody waited for.
  struct Touch {
    uint32_t memory;
    uint64_t page;
  };

  // `pages`: of all memories.
  static Result<std::shared_ptr<LoadState>> Create(uint64_t pages) noexcept;

  // The memories are empty: what is touched from here on is loaded.
  void Begin() noexcept { begun_.store(true, std::memory_order_release); }
  bool HasBegun() const noexcept { return begun_.load(std::memory_order_acquire); }
  // All is there.
  void EndLoaded() noexcept { loaded_.store(true, std::memory_order_release); }
  bool IsLoaded() const noexcept { return loaded_.load(std::memory_order_acquire); }
  // The first reason counts.
  void Fail(Failure failure) noexcept;
  Status Error() const noexcept;

  void CountFilled(uint64_t pages, uint64_t bytes) noexcept;
  void CountTouch(Touch touch, uint64_t bytes, std::chrono::nanoseconds waited) noexcept;
  Progress Read() const noexcept;
  // In the order of the touches.
  size_t TouchCount() const noexcept { return touches_.load(std::memory_order_acquire); }
  Touch TouchAt(size_t index) const noexcept;
  // A fault is being answered, or was a moment ago.
  void NoteFault() noexcept { last_fault_ns_.store(Now(), std::memory_order_relaxed); }
  bool IsCalm() const noexcept;

 private:
  explicit LoadState(std::shared_ptr<Mapping> order) noexcept;
  static uint64_t Now() noexcept;

  std::shared_ptr<Mapping> order_memory_;
  std::atomic<uint64_t>* order_;
  std::atomic<size_t> touches_{0};
  std::atomic<bool> begun_{false};
  std::atomic<bool> loaded_{false};
  std::atomic<int> error_{0};
  std::atomic<const char*> failed_call_{nullptr};
  std::atomic<uint64_t> filled_{0};
  std::atomic<uint64_t> touched_{0};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<uint64_t> waited_ns_{0};
  std::atomic<uint64_t> longest_ns_{0};
  std::atomic<uint64_t> last_fault_ns_{0};
};

class LazyMemory final : public PageLoader {
 public:
  // `index`: which of the memories of `pages`. `page_size`: of the memory, a multiple of the
  // files'.
  static Result<std::shared_ptr<LazyMemory>> Create(std::shared_ptr<const SnapshotPages> pages,
                                                    uint32_t index, uint64_t bytes,
                                                    uint64_t page_size,
                                                    std::shared_ptr<LoadState> state) noexcept;

  // PageSource and PageLoader, for whoever answers a fault.
  Result<const uint8_t*> Load(uint64_t offset, uint64_t size,
                              uint8_t* buffer) const noexcept override;
  bool HasBegun() const noexcept override { return state_->HasBegun(); }
  bool IsLoaded() const noexcept override { return state_->IsLoaded(); }
  bool IsNeeded(uint64_t offset) const noexcept override;
  void Touched(uint64_t offset, std::chrono::nanoseconds waited) noexcept override;
  void GivenBack(uint64_t offset, uint64_t length) noexcept override;

  // For the background.
  uint64_t PageCount() const noexcept { return page_count_; }
  uint64_t PageBytes() const noexcept { return page_size_; }
  // The first page from `page` on that is still needed; PageCount() when there is none.
  uint64_t NextNeeded(uint64_t page) const noexcept;
  // How many from that one on, up to `most`, are.
  uint64_t NeededFrom(uint64_t page, uint64_t most) const noexcept;
  // Some pages into `to`.
  Status Read(uint64_t page, uint64_t count, uint8_t* to) const noexcept;
  void Filled(uint64_t page, uint64_t count) noexcept;

 private:
  LazyMemory(std::shared_ptr<const SnapshotPages> pages, uint32_t index, uint64_t page_count,
             uint64_t page_size, std::shared_ptr<LoadState> state,
             std::shared_ptr<Mapping> settled) noexcept;
  // True: it was not before.
  bool Settle(uint64_t page) noexcept;
  bool IsSettled(uint64_t page) const noexcept;
  uint64_t InFiles(uint64_t pages) const noexcept {
    return pages * (page_size_ / pages_->PageBytes());
  }

  const std::shared_ptr<const SnapshotPages> pages_;
  const uint32_t index_;
  const uint64_t page_count_;
  const uint64_t page_size_;
  const std::shared_ptr<LoadState> state_;
  // A bit for each page: it is there, or was given back.
  const std::shared_ptr<Mapping> settled_memory_;
  std::atomic<uint64_t>* const settled_;
};

}  // namespace uffd

#endif  // UFFD_CORE_LAZY_MEMORY_H_
