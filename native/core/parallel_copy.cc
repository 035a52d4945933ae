#include "core/parallel_copy.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include "core/test_barrier.h"

namespace uffd {
namespace {

// 1 MiB: a third of a millisecond, several times what a helper costs.
constexpr uint64_t kWorthAHelper = 256;
// More would wait for the helper than is left in the caches.
constexpr size_t kMostWaiting = 1024;

// To wait longer for the helper means that others use its processor.
constexpr std::chrono::microseconds kLong(300);
constexpr unsigned kMostAlone = 256;

}  // namespace

// What is handed over.
class ParallelCopy::Queue final : public Helper::Work {
 public:
  // False: there is no room.
  bool Put(const Batch& batch) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_.size() + batch.count > kMostWaiting) return false;
    waiting_.insert(waiting_.end(), batch.pages, batch.pages + batch.count);
    return true;
  }

  bool DoPart() noexcept override {
    Batch batch;
    if (!Take(&batch)) return false;
    UFFD_BARRIER("copy helper has pages", nullptr);
    batch.Copy();
    return true;
  }

  void Drain() noexcept {
    for (Batch batch; Take(&batch);) batch.Copy();
  }

 private:
  // False: there is nothing.
  bool Take(Batch* batch) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    batch->count = std::min(waiting_.size(), kAtOnce);
    const auto first = waiting_.end() - static_cast<ptrdiff_t>(batch->count);
    std::copy(first, waiting_.end(), batch->pages);
    waiting_.erase(first, waiting_.end());
    return batch->count > 0;
  }

  std::mutex mutex_;
  std::vector<PageCopy> waiting_;  // the last ones are in the caches yet, and taken first
};

ParallelCopy::ParallelCopy() noexcept : queue_(std::make_unique<Queue>()) {}

ParallelCopy::~ParallelCopy() { Finish(); }

void ParallelCopy::Expect(uint64_t pages) noexcept {
  const bool was_worth = expected_ >= kWorthAHelper;
  expected_ += pages;
  if (!was_worth && expected_ >= kWorthAHelper) StartHelper();
}

void ParallelCopy::Add(uint8_t* to, const uint8_t* from) noexcept {
  added_++;
  next_.pages[next_.count++] = {to, from};
  if (next_.count == kAtOnce) HandOver();
}

void ParallelCopy::HandOver() noexcept {
  if (!queue_->Put(next_)) next_.Copy();
  next_.count = 0;
}

void ParallelCopy::StartHelper() noexcept {
  if (alone_ > 0) {
    alone_--;
  } else if (Helper::HasProcessor()) {
    helper_.Start(queue_.get());
  }
}

void ParallelCopy::Finish() noexcept {
  UFFD_BARRIER("copies handed over", nullptr);
  next_.Copy();
  next_.count = 0;
  queue_->Drain();
  expected_ = 0;
  const bool was_worth = std::exchange(added_, 0) >= kWorthAHelper;
  if (!helper_.IsStarted()) return;
  const auto waited = helper_.End();
  if (was_worth) NoteHelped(waited && *waited < kLong);
}

void ParallelCopy::NoteHelped(bool helped) noexcept {
  alone_next_ = helped ? 1 : std::min(2 * alone_next_, kMostAlone);
  if (!helped) alone_ = alone_next_;
}

}  // namespace uffd
