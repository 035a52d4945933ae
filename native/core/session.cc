#include "core/session.h"

#include <sched.h>

#include <cerrno>
#include <chrono>
#include <iterator>

#include "core/pagemap.h"
#include "core/registry.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// A descriptor whose mapping is changing answers EAGAIN until its loop has read the event. A call
// waits for that reader between its tries, and gives up when others never stop changing the
// mapping.
constexpr std::chrono::seconds kChangingPatience(2);

}  // namespace

// A call on its way. Close waits until there is none, so a descriptor number is never used after it
// was closed (and perhaps given to another file).
class Session::InFlight {
 public:
  explicit InFlight(Session* session) noexcept : session_(session) {
    session_->in_flight_++;
    UFFD_BARRIER("call-before-check", nullptr);
    admitted_ = !session_->closed_;
  }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight() { session_->in_flight_--; }
  bool Admitted() const noexcept { return admitted_; }

 private:
  Session* const session_;
  bool admitted_ = false;
};

Session::Opened Session::Open(const OpenRequest& request, Notifier* notifier) noexcept {
  Userfaultfd::Opened opened = Userfaultfd::Open(request);
  Opened result;
  result.attempts = std::move(opened.attempts);
  result.missing_features = opened.missing_features;
  result.failure = opened.failure;
  if (opened.failure.error != 0) return result;

  Result<std::unique_ptr<FaultQueue>> queue = FaultQueue::Create();
  if (!queue) {
    result.failure = queue.Error();
    return result;
  }
  std::shared_ptr<Session> session(
      new Session(std::move(opened.uffd), std::move(queue.Value()), notifier));
  const Status started = session->loop_->Start();
  if (!started) {
    result.failure = started.Error();
    return result;
  }
  const Status watched = Registry::Get().Add(session);
  if (!watched) {
    session->Release();
    result.failure = watched.Error();
    return result;
  }
  result.session = std::move(session);
  return result;
}

Session::Session(Userfaultfd uffd, std::unique_ptr<FaultQueue> queue, Notifier* notifier) noexcept
    : uffd_(std::move(uffd)),
      queue_(std::move(queue)),
      notifier_(notifier),
      loop_(std::make_unique<FaultLoop>(&uffd_, &table_, &wake_log_, queue_.get(), notifier)) {}

Session::~Session() { Release(); }

Result<Session::Registered> Session::Register(Range range, uint64_t mode,
                                              std::shared_ptr<Mapping> memory) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_REGISTER)"};
  // In the table first: a fault may come before the ioctl returns.
  const uint32_t id = table_.Add(range, mode, std::move(memory));
  if (id == 0) return Failure{EBUSY, "ioctl(UFFDIO_REGISTER)"};
  const Result<uint64_t> ioctls = uffd_.Register(range, mode);
  if (!ioctls) {
    table_.Remove(id);
    return ioctls.Error();
  }
  return Registered{id, ioctls.Value()};
}

Status Session::Unregister(uint32_t id) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_UNREGISTER)"};
  const auto registration = table_.FindById(id);
  if (!registration) return Failure{ENOENT, "ioctl(UFFDIO_UNREGISTER)"};
  const Status unregistered = uffd_.Unregister(registration->range);
  static_cast<void>(uffd_.Wake(registration->range).Ok());
  table_.Remove(id);
  // A fault of it that was just resolved is recorded by now: the caller may ask for queued events.
  const std::lock_guard<std::mutex> recorded(wake_log_.Mutex());
  return unregistered;
}

Status Session::WriteProtect(Range range, uint64_t mode) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_WRITEPROTECT)"};
  if (!Owns(range)) return Failure{ENOENT, "ioctl(UFFDIO_WRITEPROTECT)"};
  const bool arming = (mode & UFFDIO_WRITEPROTECT_MODE_WP) != 0;
  if (!arming) wake_log_.Note(range);
  const auto deadline = std::chrono::steady_clock::now() + kChangingPatience;
  Status done = uffd_.WriteProtect(range, mode);
  while (!done && done.Error().error == EAGAIN && loop_->AwaitReading(deadline)) {
    done = uffd_.WriteProtect(range, mode);
  }
  if (!done && arming) static_cast<void>(uffd_.WriteProtect(range, 0).Ok());
  return done;
}

Status Session::Wake(Range range) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_WAKE)"};
  if (!Owns(range)) return Failure{ENOENT, "ioctl(UFFDIO_WAKE)"};
  wake_log_.Note(range);
  return uffd_.Wake(range);
}

template <typename Step>
Partial Session::Fill(Range range, Step step) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return {0, kClosedErrno};
  if (!Owns(range)) return {0, ENOENT};
  const auto deadline = std::chrono::steady_clock::now() + kChangingPatience;
  Partial total;
  do {
    const Partial done = step(Range{range.start + static_cast<uint64_t>(total.bytes), range.end});
    total.bytes += done.bytes;
    total.error = done.error;
  } while (total.error == EAGAIN && loop_->AwaitReading(deadline));
  return total;
}

Partial Session::Copy(Range destination, const void* source, uint64_t mode) noexcept {
  // Noted before and after: filling the page wakes whoever waits for it.
  wake_log_.Note(destination);
  const Partial copied = Fill(destination, [&](Range rest) {
    const auto* from = static_cast<const uint8_t*>(source) + (rest.start - destination.start);
    return uffd_.Copy(rest, from, mode);
  });
  wake_log_.Note(destination);
  return copied;
}

Partial Session::Zeropage(Range range, uint64_t mode) noexcept {
  return Fill(range, [&](Range rest) { return uffd_.Zeropage(rest, mode); });
}

Result<uint64_t> Session::ArmedBytes(Range range) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(PAGEMAP_SCAN)"};
  Result<Pagemap> pagemap = Pagemap::Create();
  if (!pagemap) return pagemap.Error();
  RangeSet armed;
  const Status scanned = pagemap.Value().Armed(range, &armed);
  if (!scanned) return scanned.Error();
  return armed.Bytes();
}

void Session::FreeSleepers() noexcept {
  closed_ = true;
  UnregisterAndWakeAll();
}

void Session::Release() noexcept {
  const std::lock_guard<std::mutex> releasing(release_);
  if (released_) return;
  released_ = true;
  FreeSleepers();
  UFFD_BARRIER("release-after-wake", nullptr);
  // A call admitted before may sleep in a fault of ours (its source), freed just now; or it may
  // have registered one more range, freed by the second pass.
  const bool quiet = CallsEnded();
  UnregisterAndWakeAll();
  const bool ended = loop_->Stop();
  Registry::Get().Remove(this);
  notifier_->Poke();
  if (!quiet || !ended) {
    Leak();
    return;
  }
  ReadWhatIsLeft();
  uffd_.Close();
  table_.Clear();
}

// A loop that ended with an error left events unread, and a fork waits for its event even after the
// descriptor is closed (the half-made child holds it open).
void Session::ReadWhatIsLeft() noexcept {
  uffd_msg messages[16];
  for (;;) {
    const Result<size_t> count = uffd_.Read(messages, std::size(messages));
    if (!count || count.Value() == 0) return;
    for (size_t i = 0; i < count.Value(); i++) {
      const FileDescriptor child(DecodeEvent(messages[i]).fork_fd);
    }
  }
}

// Something may still use the parts of this session: never freeing them is the only safe thing
// left.
void Session::Leak() noexcept {
  leaked_ = true;
  if (std::shared_ptr<Session> self = weak_from_this().lock()) {
    static_cast<void>(new std::shared_ptr<Session>(std::move(self)));
    return;
  }
  static_cast<void>(loop_.release());
  static_cast<void>(queue_.release());
}

bool Session::CallsEnded() const noexcept {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  while (in_flight_ != 0) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    sched_yield();
  }
  return true;
}

void Session::UnregisterAndWakeAll() noexcept {
  for (const RegistrationView& registration : table_.All()) {
    static_cast<void>(uffd_.Unregister(registration.range).Ok());
    static_cast<void>(uffd_.Wake(registration.range).Ok());
  }
}

bool Session::NeedsRescue() noexcept {
  constexpr int kStuckTicks = 4;
  // Held, so that the descriptor is not closed while the loop is asked. A release on its way needs
  // no rescue.
  const std::unique_lock<std::mutex> not_releasing(release_, std::try_to_lock);
  if (!not_releasing.owns_lock() || released_) return false;
  const int fatal = loop_->FatalError();
  stuck_ticks_ = loop_->IsStuck(&seen_progress_) ? stuck_ticks_ + 1 : 0;
  if (fatal == 0 && stuck_ticks_ < kStuckTicks) return false;
  failed_with_ = fatal != 0 ? fatal : kStuckErrno;
  return true;
}

bool Session::Owns(Range range) const noexcept {
  const auto registration = table_.Find(range.start);
  return registration.has_value() && registration->range.Contains(range);
}

}  // namespace uffd
