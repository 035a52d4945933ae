#include "core/dropped_versions.h"

#include <sched.h>

#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include "core/helper.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// Tables, each with counts that are in no cache: a tenth of a millisecond, twice what it takes to
// have a helper awake.
constexpr uint64_t kWorthAHelper = 1024;

using Clock = std::chrono::steady_clock;

// What takes longer may have lost its processor.
constexpr std::chrono::microseconds kUsual(200);

}  // namespace

class DroppedVersions::State {
 public:
  explicit State(PageTable* table) noexcept : table_(table) {}

  void Add(const std::vector<PageVersion>& versions, uint64_t keep) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    versions_.insert(versions_.end(), versions.begin(), versions.end());
    keep_ = keep;
  }

  void Forget() noexcept {
    const auto lock = LockWhenItIsDone();
    versions_.clear();
  }

  void Await() noexcept {
    const auto lock = LockWhenItIsDone();
    ReleaseAll();
  }

  void Release() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    ReleaseAll();
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
      Helper::LetRunAnywhere();
      lock.lock();
    }
    return lock;
  }

  void ReleaseAll() noexcept {
    if (versions_.empty()) return;
    UFFD_BARRIER("dropped versions are released", nullptr);
    for (const PageVersion& version : versions_) table_->Release(version);
    versions_.clear();
    table_->GiveBack(keep_);
  }

  std::mutex mutex_;  // whoever has it has the table, as long as there are versions
  PageTable* const table_;
  std::vector<PageVersion> versions_;
  uint64_t keep_ = 0;
};

class DroppedVersions::Releasing final : public Helper::Work {
 public:
  explicit Releasing(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

  bool DoPart() noexcept override {
    state_->Release();
    return false;
  }

 private:
  const std::shared_ptr<State> state_;
};

DroppedVersions::DroppedVersions(PageTable* table) noexcept
    : state_(std::make_shared<State>(table)) {}

DroppedVersions::~DroppedVersions() { state_->Forget(); }

void DroppedVersions::Add(const PageVersion& version, uint64_t keep) noexcept {
  versions_.push_back(version);
  keep_ = keep;
}

// Only now does whoever comes late to what was handed over before find these.
void DroppedVersions::Give() noexcept {
  if (versions_.empty()) return;
  state_->Add(versions_, keep_);
  versions_.clear();
  is_given_ = true;
}

void DroppedVersions::HandOver() noexcept {
  if (versions_.empty()) return;
  Give();
  const bool is_worth = expected_.tables >= kWorthAHelper || UFFD_HELPS_ALWAYS();
  if (!is_worth || !Helper::HandOff(std::make_unique<Releasing>(state_))) Await();
}

void DroppedVersions::Await() noexcept {
  Give();
  if (!is_given_) return;
  state_->Await();
  is_given_ = false;
  expected_ = {};
}

}  // namespace uffd
