#include "core/parallel_copy.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <mutex>
#include <vector>

#include "core/mapping.h"
#include "core/native_thread.h"
#include "core/page_copy.h"
#include "core/stand_ins.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// 1 MiB: a third of a millisecond, several times what a thread costs.
constexpr size_t kWorthAThread = 256;
// More would wait for the helper than is left in the caches.
constexpr size_t kMostWaiting = 1024;

// To wait longer for the helper means that others use its processor.
constexpr std::chrono::microseconds kLong(300);
constexpr unsigned kMostAlone = 256;
constexpr int kPatience = 4096;
constexpr useconds_t kNapMicroseconds = 200;

}  // namespace

void ParallelCopy::Batch::Copy() const noexcept {
  for (size_t i = 0; i < count; i++) CopyPastCaches(pages[i].to, pages[i].from, PageSize());
}

// What is handed over, and whether a helper has to do with it.
class ParallelCopy::Queue {
 public:
  Queue() noexcept : principal_(static_cast<uint32_t>(gettid())) {}

  // False: there is no room.
  bool Put(const Batch& batch) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_.size() + batch.count > kMostWaiting) return false;
    waiting_.insert(waiting_.end(), batch.pages, batch.pages + batch.count);
    return true;
  }

  // False: there is nothing.
  bool Take(Batch* batch) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    batch->count = std::min(waiting_.size(), kAtOnce);
    const auto first = waiting_.end() - static_cast<ptrdiff_t>(batch->count);
    std::copy(first, waiting_.end(), batch->pages);
    waiting_.erase(first, waiting_.end());
    return batch->count > 0;
  }

  // Both once: false for the one that comes second.
  bool Begin() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    begun_ = !over_;
    return begun_;
  }
  bool EndBeforeBegun() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
    return !begun_;
  }

  static void* HelperMain(void* arg) noexcept {
    const std::unique_ptr<std::shared_ptr<Queue>> self(static_cast<std::shared_ptr<Queue>*>(arg));
    // A page may have been given back since it was touched, and be loaded by whom touches it again
    // (SigbusResolver).
    sigset_t faults;
    sigemptyset(&faults);
    sigaddset(&faults, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &faults, nullptr);
    UFFD_BARRIER("copy helper begins", nullptr);
    const StandIn stand_in((*self)->principal_);
    if (!stand_in.IsKnown()) {
      (*self)->AwaitEnd();
    } else if ((*self)->Begin()) {
      (*self)->Help();
    }
    return nullptr;
  }

  void Drain() noexcept {
    for (Batch batch; Take(&batch);) batch.Copy();
  }

 private:
  bool IsOver() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    return over_;
  }

  // Who made this thread sets where it runs until then, and may not find it gone.
  void AwaitEnd() noexcept {
    while (!IsOver()) usleep(kNapMicroseconds);
  }

  void Help() noexcept {
    Batch batch;
    for (int in_vain = 0; !IsOver();) {
      if (Take(&batch)) {
        UFFD_BARRIER("copy helper has pages", nullptr);
        batch.Copy();
        in_vain = 0;
      } else if (++in_vain < kPatience) {
        // Who hands over is a few microseconds away: sleeping takes longer.
        sched_yield();
      } else {
        // It waits for something itself.
        usleep(kNapMicroseconds);
      }
    }
  }

  const uint32_t principal_;  // who says what is copied, and waits
  std::mutex mutex_;
  std::vector<Page> waiting_;  // the last ones are in the caches yet, and taken first
  bool begun_ = false;
  bool over_ = false;
};

ParallelCopy::ParallelCopy() noexcept : queue_(std::make_shared<Queue>()) {}

void ParallelCopy::Add(uint8_t* to, const uint8_t* from) noexcept {
  added_++;
  next_.pages[next_.count++] = {to, from};
  if (next_.count == kAtOnce) HandOver();
}

void ParallelCopy::HandOver() noexcept {
  if (added_ == kWorthAThread) StartHelper();
  if (!queue_->Put(next_)) next_.Copy();
  next_.count = 0;
}

void ParallelCopy::StartHelper() noexcept {
  if (alone_ > 0) {
    alone_--;
    return;
  }
  // Nobody runs it, so nobody would run the next one.
  if (!called_off_.expired()) return NoteHelped(false);
  auto queue = std::make_unique<std::shared_ptr<Queue>>(queue_);
  const Result<pthread_t> thread = StartThreadBeside("uffd-copy", &Queue::HelperMain, queue.get());
  if (!thread) return NoteHelped(false);
  static_cast<void>(queue.release());  // the thread's
  helper_ = thread.Value();
}

void ParallelCopy::Finish() noexcept {
  UFFD_BARRIER("copies handed over", nullptr);
  next_.Copy();
  next_.count = 0;
  queue_->Drain();
  added_ = 0;
  if (!helper_) return;
  // Its processor may have been taken from it, and this one will be idle.
  LetRunAnywhere(*helper_);
  const auto drained = std::chrono::steady_clock::now();
  const bool called_off = queue_->EndBeforeBegun();
  if (called_off) {
    // It may be long until a busy processor comes to it: it is not waited for.
    pthread_detach(*helper_);
    called_off_ = queue_;
  } else {
    pthread_join(*helper_, nullptr);
  }
  helper_.reset();
  queue_ = std::make_shared<Queue>();
  NoteHelped(!called_off && std::chrono::steady_clock::now() - drained < kLong);
}

void ParallelCopy::NoteHelped(bool helped) noexcept {
  alone_next_ = helped ? 1 : std::min(2 * alone_next_, kMostAlone);
  if (!helped) alone_ = alone_next_;
}

}  // namespace uffd
