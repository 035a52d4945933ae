#include "core/parallel_copy.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include "core/mapping.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// 1 MiB: a third of a millisecond, several times what a helper costs.
constexpr uint64_t kWorthAHelper = 256;
// Batches. More would wait for the helper than is left in the caches.
constexpr size_t kMostWaiting = 32;

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
    if (waiting_.size() == kMostWaiting) return false;
    waiting_.push_back(batch);
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
    if (waiting_.empty()) return false;
    *batch = waiting_.back();
    waiting_.pop_back();
    return true;
  }

  std::mutex mutex_;
  std::vector<Batch> waiting_;  // the last ones are in the caches yet, and taken first
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
  PageCopy* const last = next_.count == 0 ? nullptr : &next_.runs[next_.count - 1];
  if (last != nullptr && last->to + last->bytes == to && last->from + last->bytes == from) {
    last->bytes += PageSize();
  } else {
    next_.runs[next_.count++] = {to, from, PageSize()};
  }
  if (++next_.pages == kAtOnce) HandOver();
}

void ParallelCopy::HandOver() noexcept {
  if (!queue_->Put(next_)) next_.Copy();
  next_.Clear();
}

void ParallelCopy::StartHelper() noexcept {
  if (alone_ > 0) {
    alone_--;
  } else if (chance_.HasProcessor()) {
    helper_.Start(queue_.get());
  }
}

void ParallelCopy::Finish() noexcept {
  UFFD_BARRIER("copies handed over", nullptr);
  next_.Copy();
  next_.Clear();
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
