#include "core/table_upkeep.h"

#include <sched.h>

#include <chrono>
#include <mutex>
#include <utility>

#include "core/test_barrier.h"

namespace uffd {
namespace {

// Pages, each with tables and counts that are in no cache: a tenth of a millisecond, twice what it
// takes to have a helper awake.
constexpr uint64_t kWorthAHelper = 1024;

using Clock = std::chrono::steady_clock;

// What takes longer may have lost its processor.
constexpr std::chrono::microseconds kUsual(200);

}  // namespace

class TableUpkeep::State {
 public:
  explicit State(PageTable* table) noexcept : table_(table) {}

  // Those before are done.
  void Put(Tasks tasks) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks_ = std::move(tasks);
  }

  void Forget() noexcept {
    const auto lock = LockWhenItIsDone();
    tasks_ = {};
  }

  void Await() noexcept {
    const auto lock = LockWhenItIsDone();
    DoAll();
  }

  void Do() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    DoAll();
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

  void DoAll() noexcept {
    if (tasks_.Empty()) return;
    UFFD_BARRIER("table is kept up", nullptr);
    if (!tasks_.entering.empty()) {
      for (const Entering& each : tasks_.entering) table_->Enter(each.version, each.pages);
      *tasks_.added = table_->Bytes() - tasks_.bytes_before;
    }
    for (const PageVersion& version : tasks_.released) table_->Release(version);
    if (!tasks_.released.empty()) table_->GiveBack(tasks_.keep);
    tasks_ = {};
  }

  std::mutex mutex_;  // whoever has it has the table, as long as there are tasks
  PageTable* const table_;
  Tasks tasks_;
};

class TableUpkeep::Work final : public Helper::Work {
 public:
  explicit Work(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

  bool DoPart() noexcept override {
    state_->Do();
    return false;
  }

 private:
  const std::shared_ptr<State> state_;
};

TableUpkeep::TableUpkeep(PageTable* table) noexcept : state_(std::make_shared<State>(table)) {}

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

// Only now does whoever comes late to what was handed over before find these.
void TableUpkeep::Give() noexcept {
  if (tasks_.Empty()) return;
  if (is_given_) state_->Await();
  state_->Put(std::exchange(tasks_, {}));
  is_given_ = true;
}

void TableUpkeep::HandOver() noexcept {
  if (tasks_.Empty()) return;
  uint64_t pages = expected_free_;
  for (const Entering& each : tasks_.entering) pages += each.pages.size();
  Give();
  const bool is_worth = pages >= kWorthAHelper || UFFD_HELPS_ALWAYS();
  if (!is_worth || !chance_.HasProcessor() || !Helper::HandOff(std::make_unique<Work>(state_))) {
    Await();
  }
}

void TableUpkeep::Await() noexcept {
  Give();
  if (!is_given_) return;
  state_->Await();
  is_given_ = false;
  expected_free_ = 0;
}

}  // namespace uffd
