#include "core/fault_loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>

#include "core/native_thread.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

constexpr int kDeferredRetryMs = 1;
constexpr std::chrono::milliseconds kStopPatience(1000);
constexpr std::chrono::milliseconds kStopPatienceOfAReader(20);
constexpr size_t kReadAtOnce = 64;
constexpr size_t kMostLooks = 64;  // between two sleeps
// Of the watchdog's time between two looks: a loop that runs that much and serves nothing is stuck.
constexpr std::chrono::milliseconds kMuchOfATick(100);
// A few times what it takes to wake a sleeping thread.
constexpr std::chrono::microseconds kAwake(200);
constexpr size_t kOwnSources = 2;  // beside those of children

}  // namespace

Status FaultLoop::Start(bool awake) noexcept {
  awake_ = awake;
  poke_event_ = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!poke_event_) return Failure{errno, "eventfd"};
  spare_ = FileDescriptor::Duplicate(poke_event_.Get());
  const Result<pthread_t> thread = StartNativeThread("uffd-loop", &FaultLoop::ThreadMain, this);
  if (!thread) return thread.Error();
  thread_ = thread.Value();
  started_ = true;
  return Done{};
}

bool FaultLoop::Stop() noexcept {
  if (!started_) return true;
  stopping_ = true;
  FollowNobody();
  Poke();
  {
    const auto patience = server_->IsLoading() ? kStopPatienceOfAReader : kStopPatience;
    std::unique_lock<std::mutex> lock(progress_mutex_);
    if (!progressed_.wait_for(lock, patience, [this] { return ended_; })) {
      return false;
    }
  }
  pthread_join(thread_, nullptr);
  {
    const std::lock_guard<std::mutex> lock(poke_mutex_);
    poke_event_.Reset();
  }
  spare_.Reset();
  started_ = false;
  return true;
}

void FaultLoop::Poke() noexcept {
  const std::lock_guard<std::mutex> lock(poke_mutex_);
  if (!poke_event_) return;
  const uint64_t one = 1;
  static_cast<void>(!write(poke_event_.Get(), &one, sizeof(one)));
}

bool FaultLoop::AwaitReading(std::chrono::steady_clock::time_point deadline) noexcept {
  // The thread whose call changes the mapping goes on a moment after its event was read.
  constexpr std::chrono::milliseconds kMoment(1);
  const auto now = std::chrono::steady_clock::now();
  if (now >= deadline) return false;
  std::unique_lock<std::mutex> lock(progress_mutex_);
  if (ended_) return false;
  const uint64_t seen = progress_.load();
  progressed_.wait_until(lock, std::min(deadline, now + kMoment),
                         [&] { return progress_.load() != seen; });
  return true;
}

bool FaultLoop::AwaitPass(std::chrono::steady_clock::time_point deadline) noexcept {
  uint64_t seen = 0;
  {
    const std::lock_guard<std::mutex> lock(progress_mutex_);
    seen = passes_;
  }
  Poke();
  std::unique_lock<std::mutex> lock(progress_mutex_);
  return progressed_.wait_until(lock, deadline, [&] { return ended_ || passes_ != seen; });
}

uint64_t FaultLoop::Passes() noexcept {
  const std::lock_guard<std::mutex> lock(progress_mutex_);
  return passes_;
}

void FaultLoop::TellProgress() noexcept {
  {
    const std::lock_guard<std::mutex> lock(progress_mutex_);
    progress_++;
    passes_++;
  }
  progressed_.notify_all();
}

FaultLoop::Pulse FaultLoop::TakePulse(uint64_t* seen) noexcept {
  // A source that was read is progress too: a batch may need many.
  const uint64_t progress = progress_.load() + server_->LoadSteps();
  const bool moved = progress != *seen;
  *seen = progress;
  const auto used = CpuTimeOf(thread_);
  const bool ran = used - seen_cpu_time_ > kMuchOfATick;
  seen_cpu_time_ = used;
  // One that can run lets go of its processor itself.
  if (!moved) placement_.Rescue(thread_);
  if (moved || !SomebodyWaits()) return Pulse::kWell;
  // On a machine with too much to do it may be a while until the loop's turn comes, and arming a
  // few hundred GiB in one call holds up every fault of the process for seconds. A disk may do so
  // for ever.
  const bool held_up = !ran && !server_->IsLoading() && IsHeldUp(thread_id_);
  return held_up ? Pulse::kUnknown : Pulse::kStuck;
}

bool FaultLoop::SomebodyWaits() const noexcept {
  if (open_faults_.load() > 0 || server_->IsOverdue()) return true;
  if (server_->Children().HaveWaiting()) return true;
  pollfd waiting{uffd_->Fd(), POLLIN, 0};
  return poll(&waiting, 1, 0) == 1 && (waiting.revents & POLLIN) != 0;
}

void* FaultLoop::ThreadMain(void* self) noexcept {
  auto* loop = static_cast<FaultLoop*>(self);
  loop->thread_id_ = gettid();
  loop->Run();
  // Under the lock to the last touch: after `ended_` the owner may free the loop.
  const std::lock_guard<std::mutex> lock(loop->progress_mutex_);
  loop->ended_ = true;
  loop->progressed_.notify_all();
  return nullptr;
}

void FaultLoop::Run() noexcept {
  while (!stopping_) {
    UFFD_BARRIER("loop-before-poll", &stopping_);
    const bool aside = loan_.StandAside();
    pollfd sources[kOwnSources + ForkedChildren::kMost] = {{aside ? -1 : uffd_->Fd(), POLLIN, 0},
                                                           {poke_event_.Get(), POLLIN, 0}};
    uint64_t children[ForkedChildren::kMost];
    const size_t count = server_->Children().WaitFor(sources + kOwnSources, children);
    const int ready = poll(sources, kOwnSources + count, WaitMs(aside));
    progress_++;
    if (ready < 0 && errno != EINTR && errno != EAGAIN) server_->Fail(errno);
    if ((sources[0].revents & (POLLERR | POLLNVAL)) != 0) server_->Fail(EIO);
    if (server_->FatalError() != 0) break;
    if (sources[1].revents != 0) {
      uint64_t pokes = 0;
      static_cast<void>(!read(poke_event_.Get(), &pokes, sizeof(pokes)));
    }
    UFFD_BARRIER("loop-before-read", &stopping_);
    // A thread that was woken often faults again at once, and is found without a sleep in between.
    // But who faults without a pause must not keep those waiting who are due, nor children.
    const size_t most_looks = server_->Children().NextLook() ? 1 : kMostLooks;
    bool more = true;
    for (size_t looks = 0; more && looks < most_looks && !stopping_; looks++) {
      more = ReadBatch();
      ServeBatch();
      if (server_->IsDue()) server_->ServeDue();
    }
    for (size_t i = 0; i < count; i++) {
      if (sources[kOwnSources + i].revents != 0) server_->Children().Serve(children[i]);
    }
    server_->Children().LookAfter();
  }
  // Nobody may be left waiting for an event to be read (fork, munmap and madvise wait for that).
  // The ranges are unregistered and woken by now, so the faults among them end as discarded.
  while (server_->FatalError() == 0 && ReadBatch()) ServeBatch();
  placement_.LetGo();
}

// Until a fault is due, or for ever.
int FaultLoop::WaitMs(bool aside) noexcept {
  if (fault_count_ > 0 || read_again_soon_) return kDeferredRetryMs;
  if (awake_ && !placement_.IsBeside() && FaultServer::Clock::now() < awake_until_) return 0;
  auto next = server_->NextDue();
  const auto look = server_->Children().NextLook();
  if (look && (!next || *look < *next)) next = look;
  int most = INT_MAX;
  if (placement_.IsHeld()) most = LoopPlacement::kHoldMs;
  if (aside) most = ReadingLoan::kLookMs;
  if (!next) return most == INT_MAX ? -1 : most;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - FaultServer::Clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, most));
}

void FaultLoop::ReadAside() noexcept {
  uffd_msg messages[kReadAtOnce];
  reading_aside_ = true;
  loan_.NoteReading();
  const uint64_t stamp = server_->Now();
  const Result<size_t> count = uffd_->Read(messages, kReadAtOnce);
  // The loop finds what is wrong.
  const size_t faults = count ? count.Value() : 0;
  if (faults == 0) {
    reading_aside_ = false;
    return;
  }
  UFFD_BARRIER("aside-after-read", &stopping_);
  const auto now = FaultServer::Clock::now();
  bool due = false;
  for (size_t i = 0; i < faults; i++) {
    Event fault = DecodeEvent(messages[i]);
    fault.stamp = stamp;
    fault.read_at = now;
    Place(&fault);
    due = server_->HandOverAside(fault) || due;
  }
  reading_aside_ = false;
  if (due || !loan_.IsKnown()) Poke();
}

void FaultLoop::LeaveAside() noexcept {
  if (loan_.GiveBack()) Poke();
}

bool FaultLoop::ReadBatch() noexcept {
  uffd_msg messages[kReadAtOnce];
  // Room for one read always: an event that is not read keeps the deferred faults deferred.
  if (fault_count_ + kReadAtOnce > kBatch) HandBackDeferred();
  size_t read_now = 0;
  while (fault_count_ + kReadAtOnce <= kBatch) {
    const uint64_t stamp = server_->Now();
    server_->Gate().Close();
    const Result<size_t> count = ReadMessages(messages);
    const auto now = FaultServer::Clock::now();
    if (!count) {
      server_->Gate().Open();
      server_->Fail(count.Error().error);
      return false;
    }
    for (size_t i = 0; i < count.Value(); i++) {
      Event event = DecodeEvent(messages[i]);
      if (event.type == EventType::kPageFault) {
        event.stamp = stamp;
        event.read_at = now;
        Place(&event);
        faults_[fault_count_++] = event;
        continue;
      }
      if (event.type == EventType::kFork) {
        // A child that took the last descriptor gives it back: the next fork waits for one.
        server_->ObserveFork(event, static_cast<bool>(spare_));
        continue;
      }
      server_->Observe(event);
    }
    server_->Gate().Open();
    read_now += count.Value();
    if (count.Value() < kReadAtOnce) break;
  }
  open_faults_ = static_cast<uint32_t>(fault_count_);
  return read_now > 0;
}

// Reading a fork event takes a descriptor number. Where none is left the spare one makes room, then
// those of children, and where even those were taken by another thread the event is read a moment
// later: the fork waits.
Result<size_t> FaultLoop::ReadMessages(uffd_msg* messages) noexcept {
  read_again_soon_ = false;
  if (!spare_) spare_ = FileDescriptor::Duplicate(poke_event_.Get());
  Result<size_t> count = uffd_->Read(messages, kReadAtOnce);
  if (count || (count.Error().error != EMFILE && count.Error().error != ENFILE)) return count;
  spare_.Reset();
  do {
    count = uffd_->Read(messages, 1);
    if (count || (count.Error().error != EMFILE && count.Error().error != ENFILE)) return count;
  } while (server_->Children().CloseOldest());
  read_again_soon_ = true;
  return size_t{0};
}

// A woken thread faults again, so the kernel holds the fault for us.
void FaultLoop::HandBackDeferred() noexcept {
  for (size_t i = 0; i < fault_count_; i++) {
    static_cast<void>(uffd_->Wake(faults_[i].page).Ok());
  }
  fault_count_ = 0;
}

void FaultLoop::Place(Event* fault) const noexcept {
  fault->page = Range{fault->address, fault->address + 1}.RoundOutward(PageSize());
  const auto registration = table_->Find(fault->address);
  if (!registration) return;
  fault->page = registration->PageOf(fault->address);
  fault->registration = registration->id;
  fault->offset = static_cast<int64_t>(registration->OffsetOf(fault->address));
}

void FaultLoop::ServeBatch() noexcept {
  UFFD_BARRIER("loop-before-resolve", &stopping_);
  std::array<bool, kBatch> deferred{};
  std::array<bool, kBatch> open{};
  for (size_t i = 0; i < fault_count_; i++) {
    if (IsEndedWith(i, open)) continue;
    awake_until_ = faults_[i].read_at + kAwake;
    const Outcome outcome = server_->Serve(faults_[i]);
    deferred[i] = outcome == Outcome::kDeferred;
    if (awake_ && !deferred[i]) {
      placement_.Note(static_cast<pid_t>(faults_[i].thread_id), faults_[i].read_at);
    }
    open[i] = outcome == Outcome::kHandedOver || outcome == Outcome::kAttached;
  }
  size_t kept = 0;
  for (size_t i = 0; i < fault_count_; i++) {
    if (deferred[i]) faults_[kept++] = faults_[i];
  }
  fault_count_ = kept;
  open_faults_ = static_cast<uint32_t>(kept);
  deferred_ = kept > 0;
  TellProgress();
  if (awake_) placement_.Follow();
}

// Several threads on one page, or one thread interrupted by signals: one fault, ended once. All of
// them were read before the first is resolved, so its wake reaches every one. While a handler has
// the first, each is served: the consumer's own cannot wait for that (test 32, D1).
bool FaultLoop::IsEndedWith(size_t index, const std::array<bool, kBatch>& open) const noexcept {
  for (size_t i = 0; i < index; i++) {
    if (!open[i] && faults_[i].page.start == faults_[index].page.start &&
        faults_[i].reason == faults_[index].reason) {
      return true;
    }
  }
  return false;
}

}  // namespace uffd
