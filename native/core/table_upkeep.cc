#include "core/table_upkeep.h"

#include <sched.h>

#include <chrono>
#include <mutex>
#include <utility>

#include "core/test_barrier.h"
#include "core/warm_up.h"

namespace uffd {
namespace {

// Pages, each with tables and counts that are in no cache: a tenth of a millisecond, twice what it
// takes to have a helper awake.
constexpr uint64_t kWorthAHelper = 1024;
// Pages whose faults take as long as waking one: fewer are not made, be they all or what is
// missing.
constexpr uint64_t kWorthWarming = 32;

using Clock = std::chrono::steady_clock;

// What takes longer may have lost its processor.
constexpr std::chrono::microseconds kUsual(200);

}  // namespace

class TableUpkeep::State {
 public:
  explicit State(PageTable* table) noexcept : table_(table) {}

  // Those before are done. True: somebody is on the way to them who was sent for those.
  bool Put(Tasks tasks) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks_ = std::move(tasks);
    return std::exchange(is_somebody_coming_, true);
  }
  void NobodyComes() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_somebody_coming_ = false;
  }

  void Forget() noexcept {
    const auto lock = LockWhenItIsDone();
    tasks_ = {};
    static_cast<void>(StopWarmUp());
  }

  // And these.
  void Await(Tasks more) noexcept {
    const auto lock = LockWhenItIsDone();
    DoAll();
    tasks_ = std::move(more);
    DoAll();
    // The table is its owner's again.
    tasks_ = {};
  }

  // Null: no memory is to be made.
  std::shared_ptr<WarmUp> Do() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_somebody_coming_ = false;
    DoAll();
    const uint64_t pages = std::exchange(tasks_, {}).warm;
    if (pages == 0) return nullptr;
    warm_up_ = std::make_shared<WarmUp>(table_->ColdFor(pages));
    return warm_up_;
  }

  void EndWarmUp() noexcept {
    const auto lock = LockWhenItIsDone();
    table_->NoteWarm(StopWarmUp());
  }

 private:
  // The helper may have lost its processor, and this one is idle when it is waited for.
  std::unique_lock<std::mutex> LockWhenItIsDone() noexcept {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    const auto usual = Clock::now() + kUsual;
    while (!lock && Clock::now() < usual) {
      sched_yield();
      static_cast<void>(lock.try_lock());
    }
    if (!lock) {
      Helper::ComeHere();
      lock.lock();
    }
    return lock;
  }

  WarmUp::Slots StopWarmUp() noexcept {
    const auto warm_up = std::exchange(warm_up_, nullptr);
    return warm_up == nullptr ? WarmUp::Slots{} : warm_up->Stop();
  }

  // All but the memory.
  void DoAll() noexcept {
    if (tasks_.Empty()) return;
    UFFD_BARRIER("table is kept up", nullptr);
    if (!tasks_.entering.empty()) {
      for (const Entering& each : tasks_.entering) table_->Enter(each.version, each.pages);
      *tasks_.added = table_->Bytes() - tasks_.bytes_before;
    }
    for (const PageVersion& version : tasks_.released) table_->Release(version);
    if (tasks_.released.empty()) return;
    // What was made before counts, too.
    table_->NoteWarm(StopWarmUp());
    table_->GiveBack(tasks_.keep);
  }

  std::mutex mutex_;  // whoever has it has the table, as long as there are tasks
  PageTable* const table_;
  Tasks tasks_;
  bool is_somebody_coming_ = false;
  std::shared_ptr<WarmUp> warm_up_;
};

class TableUpkeep::Work final : public Helper::Work {
 public:
  explicit Work(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

  bool DoPart() noexcept override {
    if (warm_up_ == nullptr) warm_up_ = state_->Do();
    return warm_up_ != nullptr && warm_up_->Step();
  }

 private:
  const std::shared_ptr<State> state_;
  std::shared_ptr<WarmUp> warm_up_;
};

TableUpkeep::TableUpkeep(PageTable* table) noexcept
    : table_(table), state_(std::make_shared<State>(table)) {}

TableUpkeep::~TableUpkeep() { state_->Forget(); }

void TableUpkeep::Enter(std::vector<Entering> entering, uint64_t bytes_before,
                        uint64_t* added) noexcept {
  tasks_.entering = std::move(entering);
  tasks_.bytes_before = bytes_before;
  tasks_.added = added;
}

void TableUpkeep::Release(const PageVersion& version, uint64_t keep) noexcept {
  tasks_.released.push_back(version);
  tasks_.keep = keep;
}

bool TableUpkeep::IsWorthAHelper() const noexcept {
  uint64_t pages = expected_free_;
  for (const Entering& each : tasks_.entering) pages += each.pages.size();
  return pages >= kWorthAHelper || UFFD_HELPS_ALWAYS();
}

void TableUpkeep::HandOver() noexcept {
  // What the program waits for next is not left to a thread that waits for a processor itself.
  if (!tasks_.Empty() && !(IsWorthAHelper() && chance_.HasProcessor())) Await();
  const uint64_t placed = std::exchange(expected_placed_, 0);
  const bool is_warm =
      placed < kWorthWarming || (tasks_.Empty() && table_->IsWarmFor(placed - kWorthWarming));
  if (tasks_.Empty() && is_warm) return;
  if (!is_warm) {
    tasks_.warm = placed;
    is_warming_ = true;
  }
  if (is_given_) state_->Await({});
  is_given_ = true;
  // Only now does whoever comes late to what was handed over before find these.
  const bool is_somebody_coming = state_->Put(std::exchange(tasks_, {}));
  if (is_somebody_coming || Helper::HandOff(std::make_unique<Work>(state_))) return;
  state_->NobodyComes();
  Await();
}

void TableUpkeep::Await() noexcept {
  if (!is_given_ && tasks_.Empty()) return;
  state_->Await(std::exchange(tasks_, {}));
  is_given_ = false;
  expected_free_ = 0;
}

void TableUpkeep::EndWarmUp() noexcept {
  if (std::exchange(is_warming_, false)) state_->EndWarmUp();
}

}  // namespace uffd
