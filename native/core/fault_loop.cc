#include "core/fault_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "core/native_thread.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

constexpr int kDeferredRetryMs = 1;
constexpr size_t kReadAtOnce = 64;
constexpr uint64_t kLargestPage = 64UL * 1024;
// A source for UFFDIO_COPY that is ours and never registered.
alignas(kLargestPage) uint8_t g_zeros[kLargestPage];

void Place(const RegistrationView& registration, Event* event) noexcept {
  event->registration = registration.id;
  event->offset = static_cast<int64_t>(event->address - registration.range.start);
}

Range PageOf(uint64_t address) noexcept {
  const uint64_t start = address & ~(PageSize() - 1);
  return {start, start + PageSize()};
}

}  // namespace

Status FaultLoop::Start() noexcept {
  stop_event_ = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event_) return Failure{errno, "eventfd"};
  spare_ = FileDescriptor(fcntl(stop_event_.Get(), F_DUPFD_CLOEXEC, 0));
  const Result<pthread_t> thread = StartNativeThread("uffd-loop", &FaultLoop::ThreadMain, this);
  if (!thread) return thread.Error();
  thread_ = thread.Value();
  started_ = true;
  return Done{};
}

bool FaultLoop::Stop() noexcept {
  if (!started_) return true;
  stopping_ = true;
  const uint64_t one = 1;
  static_cast<void>(!write(stop_event_.Get(), &one, sizeof(one)));
  {
    std::unique_lock<std::mutex> lock(progress_mutex_);
    if (!progressed_.wait_for(lock, std::chrono::seconds(1), [this] { return ended_; })) {
      return false;
    }
  }
  pthread_join(thread_, nullptr);
  stop_event_.Reset();
  spare_.Reset();
  started_ = false;
  return true;
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

void FaultLoop::TellProgress() noexcept {
  {
    const std::lock_guard<std::mutex> lock(progress_mutex_);
    progress_++;
  }
  progressed_.notify_all();
}

bool FaultLoop::IsStuck(uint64_t* seen) const noexcept {
  const uint64_t progress = progress_.load();
  const bool moved = progress != *seen;
  *seen = progress;
  if (moved) return false;
  if (open_faults_.load() > 0) return true;
  pollfd waiting{uffd_->Fd(), POLLIN, 0};
  return poll(&waiting, 1, 0) == 1 && (waiting.revents & POLLIN) != 0;
}

void* FaultLoop::ThreadMain(void* self) noexcept {
  auto* loop = static_cast<FaultLoop*>(self);
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
    pollfd sources[2] = {{uffd_->Fd(), POLLIN, 0}, {stop_event_.Get(), POLLIN, 0}};
    const bool retry = fault_count_ > 0 || read_again_soon_;
    const int ready = poll(sources, 2, retry ? kDeferredRetryMs : -1);
    progress_++;
    if (ready < 0 && errno != EINTR && errno != EAGAIN) Fail(errno);
    if ((sources[0].revents & (POLLERR | POLLNVAL)) != 0) Fail(EIO);
    if (fatal_error_ != 0) break;
    UFFD_BARRIER("loop-before-read", &stopping_);
    while (ReadBatch()) ServeBatch();
    ServeBatch();
  }
  // Nobody may be left waiting for an event to be read (fork, munmap and madvise wait for that).
  // The ranges are unregistered and woken by now, so the faults among them end as discarded.
  while (fatal_error_ == 0 && ReadBatch()) ServeBatch();
}

bool FaultLoop::ReadBatch() noexcept {
  uffd_msg messages[kReadAtOnce];
  // Room for one read always: an event that is not read keeps the deferred faults deferred.
  if (fault_count_ + kReadAtOnce > kBatch) HandBackDeferred();
  size_t read_now = 0;
  while (fault_count_ + kReadAtOnce <= kBatch) {
    const uint64_t stamp = wake_log_->Now();
    const Result<size_t> count = ReadMessages(messages);
    if (!count) {
      Fail(count.Error().error);
      return false;
    }
    for (size_t i = 0; i < count.Value(); i++) {
      Event event = DecodeEvent(messages[i]);
      if (event.type == EventType::kPageFault) {
        event.stamp = stamp;
        if (const auto known = table_->Find(event.address)) Place(*known, &event);
        faults_[fault_count_++] = event;
      } else {
        Observe(event);
      }
    }
    read_now += count.Value();
    if (count.Value() < kReadAtOnce) break;
  }
  open_faults_ = static_cast<uint32_t>(fault_count_);
  return read_now > 0;
}

// Reading a fork event takes a descriptor number. Where none is left the spare one makes room, and
// where even that was taken by another thread the event is read a moment later: the fork waits.
Result<size_t> FaultLoop::ReadMessages(uffd_msg* messages) noexcept {
  read_again_soon_ = false;
  if (!spare_) spare_ = FileDescriptor(fcntl(stop_event_.Get(), F_DUPFD_CLOEXEC, 0));
  Result<size_t> count = uffd_->Read(messages, kReadAtOnce);
  if (count || (count.Error().error != EMFILE && count.Error().error != ENFILE)) return count;
  spare_.Reset();
  count = uffd_->Read(messages, 1);
  if (count || (count.Error().error != EMFILE && count.Error().error != ENFILE)) return count;
  read_again_soon_ = true;
  return size_t{0};
}

// A woken thread faults again, so the kernel holds the fault for us.
void FaultLoop::HandBackDeferred() noexcept {
  for (size_t i = 0; i < fault_count_; i++) {
    static_cast<void>(uffd_->Wake(PageOf(faults_[i].address)).Ok());
  }
  fault_count_ = 0;
}

void FaultLoop::Observe(Event event) noexcept {
  if (event.type == EventType::kFork) {
    // Left open, it would keep the child's faults waiting for a reader that does not exist.
    const FileDescriptor child(event.fork_fd);
    event.fork_fd = -1;
  }
  if (const auto registration = table_->Find(event.address)) Place(*registration, &event);
  queue_->Push(event);
  notifier_->Poke();
}

void FaultLoop::ServeBatch() noexcept {
  UFFD_BARRIER("loop-before-resolve", &stopping_);
  std::array<bool, kBatch> deferred{};
  for (size_t i = 0; i < fault_count_; i++) {
    if (SeenInBatch(i)) continue;
    Outcome outcome;
    {
      const std::lock_guard<std::mutex> resolving(wake_log_->Mutex());
      outcome = Serve(faults_[i]);
      if (outcome == Outcome::kResolved) queue_->Push(faults_[i]);
    }
    if (outcome == Outcome::kResolved) notifier_->Poke();
    deferred[i] = outcome == Outcome::kDeferred;
  }
  size_t kept = 0;
  for (size_t i = 0; i < fault_count_; i++) {
    if (deferred[i]) faults_[kept++] = faults_[i];
  }
  fault_count_ = kept;
  open_faults_ = static_cast<uint32_t>(kept);
  TellProgress();
}

// Several threads on one page, or one thread interrupted by signals: one fault, ended once. All of
// them were read before the first is resolved, so its wake reaches every one.
bool FaultLoop::SeenInBatch(size_t index) const noexcept {
  const Range page = PageOf(faults_[index].address);
  for (size_t i = 0; i < index; i++) {
    if (PageOf(faults_[i].address).start == page.start &&
        faults_[i].reason == faults_[index].reason) {
      return true;
    }
  }
  return false;
}

Outcome FaultLoop::Serve(const Event& fault) noexcept {
  const Range page = PageOf(fault.address);
  const auto registration = table_->Find(fault.address);
  const bool stale =
      !registration || registration->id != fault.registration ||
      (fault.reason == FaultReason::kWriteProtect && wake_log_->WokenSince(fault.stamp, page));
  if (stale) {
    static_cast<void>(uffd_->Wake(page).Ok());
    return Outcome::kDiscarded;
  }
  const int injected = UFFD_INJECTED_ERROR();
  if (injected != 0) return OutcomeOf(injected, page);
  if (fault.reason == FaultReason::kMissing) return ResolveMissing(page, *registration);
  const Status done = uffd_->WriteProtect(page, 0);
  return done ? Outcome::kResolved : OutcomeOf(done.Error().error, page);
}

Outcome FaultLoop::ResolveMissing(Range page, const RegistrationView& registration) noexcept {
  Partial done = uffd_->Zeropage(page, 0);
  if (done.error != EEXIST)
    return done.error == 0 ? Outcome::kResolved : OutcomeOf(done.error, page);
  // Either the page is there, or it is an armed page that does not exist yet: ZEROPAGE refuses
  // both, COPY fills the second one and keeps it armed.
  if ((registration.mode & UFFDIO_REGISTER_MODE_WP) != 0) {
    done = uffd_->Copy(page, g_zeros, UFFDIO_COPY_MODE_WP);
    if (done.error == 0) return Outcome::kResolved;
  }
  return OutcomeOf(done.error, page);
}

Outcome FaultLoop::OutcomeOf(int error, Range page) noexcept {
  switch (error) {
    case EAGAIN:
      return Outcome::kDeferred;
    case EEXIST:  // without the wake the thread that lost the race would sleep on
      static_cast<void>(uffd_->Wake(page).Ok());
      return Outcome::kAlreadyPresent;
    case ENOENT:  // unregistered or unmapped meanwhile
    case ESRCH:   // the process is ending
      static_cast<void>(uffd_->Wake(page).Ok());
      return Outcome::kDiscarded;
    case ENOMEM:  // the kernel may free some; the thread waits as it would in any fault
      return Outcome::kDeferred;
    default:
      Fail(error);
      return Outcome::kFailed;
  }
}

void FaultLoop::Fail(int error) noexcept {
  int none = 0;
  fatal_error_.compare_exchange_strong(none, error);
  notifier_->Poke();
}

}  // namespace uffd
