#include "core/session.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>

#include "core/each_mapping.h"
#include "core/holder_list.h"
#include "core/left_registrations.h"
#include "core/owed_pages.h"
#include "core/page_source.h"
#include "core/pagemap.h"
#include "core/registry.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// A descriptor whose mapping is changing answers EAGAIN until its loop has read the event. A call
// waits for that reader between its tries, and gives up when others never stop changing the
// mapping.
constexpr std::chrono::seconds kChangingPatience(2);
// Ticks of the watchdog at which a loop stood still while a fault waited.
constexpr int kStuckTicks = 4;
constexpr int kSlowTicks = 120;
// To poison what a loop did not come to.
constexpr std::chrono::milliseconds kPoisonPatience(30'000);
constexpr std::chrono::milliseconds kHastyPoison(400);

constexpr uint64_t kEventFeatures = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                    UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP;

int ErrorOf(const Status& status) noexcept { return status ? 0 : status.Error().error; }
int ErrorOf(const Partial& partial) noexcept { return partial.error; }

// The kernel stops in the middle, with those before it done. EAGAIN comes before the first.
bool StoppedHalfWay(const Status& write_protected) noexcept {
  return !write_protected && write_protected.Error().error != EAGAIN;
}

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

Session::Opened Session::Open(const OpenRequest& request, Notifier* notifier, Loop loop) noexcept {
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
  const Status started = session->Start(loop);
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
      leaves_all_to_handlers_((uffd_.Features() & kEventFeatures) == 0),
      server_(std::make_unique<FaultServer>(&uffd_, &table_, queue_.get(), notifier,
                                            static_cast<uint32_t>(gettid()))),
      loop_(std::make_unique<FaultLoop>(&uffd_, &table_, server_.get())) {}

Session::~Session() { Release(); }

Status Session::Start(Loop loop) noexcept {
  if ((uffd_.Features() & UFFD_FEATURE_EVENT_FORK) != 0) {
    const Status prepared = server_->Children().Prepare();
    if (!prepared) return prepared;
  }
  return loop_->Start(loop == Loop::kStaysAwake);
}

Result<Session::Registered> Session::Register(Range range,
                                              const std::shared_ptr<const Policy>& policy,
                                              std::shared_ptr<Mapping> memory) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_REGISTER)"};
  const uint64_t mode = policy->mode;
  // Whether a page is armed must be known to keep it so while it is filled.
  const bool fills = (mode & (UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR)) != 0;
  if (fills && (mode & UFFDIO_REGISTER_MODE_WP) != 0) {
    const Result<int> pagemap = Pagemap::Descriptor();
    if (!pagemap) return pagemap.Error();
  }
  const Status prepared = server_->Prepare(*policy);
  if (!prepared) return prepared.Error();
  if (!EndLeft(range)) return Failure{ENOMEM, "ioctl(UFFDIO_UNREGISTER)"};
  Registration registration;
  registration.range = range;
  registration.policy = policy;
  registration.memory = std::move(memory);
  if (policy->source && !policy->loader) {
    Result<std::shared_ptr<GivenBack>> given_back =
        GivenBack::Create(range.Length(), policy->page_size);
    if (!given_back) return given_back.Error();
    registration.given_back = std::move(given_back.Value());
  }
  Unmerge(range);
  if (!policy->handler) leaves_all_to_handlers_ = false;
  // In the table first: a fault may come before the ioctl returns.
  const Result<uint32_t> added = table_.Add(std::move(registration));
  if (!added) return added.Error();
  const uint32_t id = added.Value();
  // Asked when it is in the table: of two threads that register each other's source, one sees it.
  if (WouldWaitForLoop(range, *policy)) {
    table_.Remove(id);
    return Failure{ELOOP, "ioctl(UFFDIO_REGISTER)"};
  }
  const Result<uint64_t> ioctls = uffd_.Register(range, mode);
  if (!ioctls) {
    // The kernel may have come to a mapping that it could not split, with those before it done. Any
    // other error comes before the first, and the memory may be another userfaultfd's, which
    // kernels before 6.17 let anybody unregister.
    if (ioctls.Error().error == ENOMEM) static_cast<void>(EndRegistrationOf(range).Ok());
    table_.Remove(id);
    return ioctls.Error();
  }
  table_.SetIoctls(id, ioctls.Value());
  return Registered{id, ioctls.Value()};
}

bool Session::WouldWaitForLoop(Range range, const Policy& policy) noexcept {
  constexpr uint64_t kFaultsOnRead = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
  Registry& registry = Registry::Get();
  if (policy.source && registry.MayFault(policy.source->Memory())) return true;
  return (policy.mode & kFaultsOnRead) != 0 && registry.IsSource(range);
}

Status Session::Unregister(uint32_t id) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_UNREGISTER)"};
  const bool served = EndOpenFaultsOf(id);
  // Whoever released it meanwhile has ended everything.
  if (closed_) return Failure{kClosedErrno, "ioctl(UFFDIO_UNREGISTER)"};
  while (const auto part = table_.PartOf(id)) {
    if (!served) PoisonOwed(*part);
    const Status ended = EndRegistrationOf(part->range);
    if (!ended) {
      table_.SetClosing(id, false);
      return ended;
    }
    table_.RemovePart(id, part->range);
  }
  return Done{};
}

Status Session::Unregister(Range range) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_UNREGISTER)"};
  Status ended = EndRegistrationOf(range);
  return ended ? table_.Cut(range) : ended;
}

Status Session::EndRegistrationOf(Range range) noexcept {
  Status unregistered = UnregisterEach(&uffd_, range);
  // A mapping that holds more than the range cannot be split at the limit of mappings (ENOMEM): it
  // is still registered, and its faults must be served (test 37). Memory that is gone is EINVAL.
  if (!unregistered && unregistered.Error().error != EINVAL) return unregistered;
  static_cast<void>(uffd_.Wake(range).Ok());
  server_->Unregistered(range);
  return Done{};
}

// Repeats a step that the kernel refuses while an event of a changing mapping waits to be read.
template <typename Step>
auto Session::WhileChanging(Step step) noexcept {
  const auto deadline = std::chrono::steady_clock::now() + kChangingPatience;
  auto done = step();
  while (ErrorOf(done) == EAGAIN && loop_->AwaitReading(deadline)) done = step();
  return done;
}

Status Session::WriteProtect(Range range, uint64_t mode) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_WRITEPROTECT)"};
  if (!Owns(range)) return Failure{ENOENT, "ioctl(UFFDIO_WRITEPROTECT)"};
  const Status done = Mark(range, mode);
  const bool disarmed = (mode & UFFDIO_WRITEPROTECT_MODE_WP) == 0 || StoppedHalfWay(done);
  if (disarmed && (mode & UFFDIO_WRITEPROTECT_MODE_DONTWAKE) == 0) server_->Woken(range);
  return done;
}

Status Session::Arm(Range range) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_WRITEPROTECT)"};
  if (!Owns(range)) return Failure{ENOENT, "ioctl(UFFDIO_WRITEPROTECT)"};
  return Mark(range, UFFDIO_WRITEPROTECT_MODE_WP);
}

Status Session::Mark(Range range, uint64_t mode) noexcept {
  Status done = WhileChanging([&] { return server_->Resolver().WriteProtect(range, mode); });
  const bool arming = (mode & UFFDIO_WRITEPROTECT_MODE_WP) != 0;
  if (StoppedHalfWay(done)) WriteProtectEach(&uffd_, range, arming ? 0 : mode);
  return done;
}

Status Session::UnprotectInSignal(Range page) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_WRITEPROTECT)"};
  return uffd_.WriteProtect(page, UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
}

FaultResolver::Answer Session::FillPage(const Registration& registration, Range page,
                                        const uint8_t* bytes) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return {Outcome::kDiscarded, Action::kNone, kClosedErrno};
  const EventGate::Pass pass(&server_->Gate());
  if (!table_.Serves(registration.id, page)) return {Outcome::kDiscarded, Action::kNone, ENOENT};
  const PageLoader& loader = *registration.policy->loader;
  if (bytes != nullptr && !loader.IsNeeded(registration.OffsetOf(page.start))) {
    return {Outcome::kDeferred, Action::kNone, EAGAIN};
  }
  return server_->Resolver().Fill(page, bytes, registration, false);
}

FaultResolver::Answer Session::PoisonPage(Range page) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return {Outcome::kDiscarded, Action::kNone, kClosedErrno};
  return server_->Resolver().Poison(page);
}

Partial Session::FillPages(const Registration& registration, Range pages,
                           const uint8_t* bytes) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return {0, kClosedErrno};
  const EventGate::Pass pass(&server_->Gate());
  if (!table_.Serves(registration.id, pages)) return {0, ENOENT};
  const Policy& policy = *registration.policy;
  for (uint64_t page = pages.start; page < pages.end; page += policy.page_size) {
    if (!policy.loader->IsNeeded(registration.OffsetOf(page))) return {0, EAGAIN};
  }
  const bool armed = (policy.mode & UFFDIO_REGISTER_MODE_WP) != 0;
  return uffd_.Copy(pages, bytes, armed ? UFFDIO_COPY_MODE_WP : 0);
}

Status Session::Wake(Range range) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return Failure{kClosedErrno, "ioctl(UFFDIO_WAKE)"};
  if (!Owns(range)) return Failure{ENOENT, "ioctl(UFFDIO_WAKE)"};
  const Status done = uffd_.Wake(range);
  UFFD_BARRIER("wake-before-woken", nullptr);
  server_->Woken(range);
  return done;
}

// `step` fills what is left of the range, as far as it comes.
template <typename Step>
Partial Session::Fill(Range range, bool wakes, Step step) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return {0, kClosedErrno};
  if (!Owns(range)) return {0, ENOENT};
  const Partial done = FillWhileChanging(range, step);
  if (wakes && done.bytes > 0) {
    server_->Woken({range.start, range.start + static_cast<uint64_t>(done.bytes)});
  }
  return done;
}

template <typename Step>
Partial Session::FillWhileChanging(Range range, Step step) noexcept {
  int64_t total = 0;
  const Partial last = WhileChanging([&] {
    const Partial done = step(Range{range.start + static_cast<uint64_t>(total), range.end});
    total += done.bytes;
    return done;
  });
  return {total, last.error};
}

Partial Session::Copy(Range destination, const void* source, uint64_t mode) noexcept {
  return Fill(destination, (mode & UFFDIO_COPY_MODE_DONTWAKE) == 0, [&](Range rest) {
    const auto* from = static_cast<const uint8_t*>(source) + (rest.start - destination.start);
    return uffd_.Copy(rest, from, mode);
  });
}

Partial Session::Zeropage(Range range, uint64_t mode) noexcept {
  return Fill(range, (mode & UFFDIO_ZEROPAGE_MODE_DONTWAKE) == 0,
              [&](Range rest) { return uffd_.Zeropage(rest, mode); });
}

Partial Session::Continue(Range range, uint64_t mode) noexcept {
  return Fill(range, (mode & UFFDIO_CONTINUE_MODE_DONTWAKE) == 0,
              [&](Range rest) { return uffd_.Continue(rest, mode); });
}

Partial Session::Poison(Range range, uint64_t mode) noexcept {
  return Fill(range, (mode & UFFDIO_POISON_MODE_DONTWAKE) == 0,
              [&](Range rest) { return uffd_.Poison(rest, mode); });
}

Partial Session::Move(Range destination, uint64_t source, uint64_t mode) noexcept {
  // Pages that are not there yet would stay behind as holes (test 69, B20).
  HolderList::Get().Finish({source, source + destination.Length()});
  return Fill(destination, (mode & UFFDIO_MOVE_MODE_DONTWAKE) == 0, [&](Range rest) {
    return uffd_.Move(rest, source + (rest.start - destination.start), mode);
  });
}

Session::Resolved Session::ResolveFault(uint64_t id, Answer answer, const uint8_t* bytes,
                                        Protect protect) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) {
    const Ending before = server_->EndingOf(id);
    return {before.by == EndedBy::kNobody ? Ending{EndedBy::kClosed, Action::kWake} : before};
  }
  const std::optional<FaultServer::Claim> claim = server_->ClaimFault(id);
  if (!claim) return {server_->EndingOf(id)};
  UFFD_BARRIER("resolve-after-claim", nullptr);
  const bool armed = protect == Protect::kYes;
  FaultResolver::Answer done{};
  bool removed = false;
  static_cast<void>(WhileChanging([&] {
    const auto given = server_->AnswerClaim(id, *claim, answer == Answer::kPoison, bytes, armed);
    removed = !given;
    done = given.value_or(FaultResolver::Answer{});
    return Partial{0, done.error};
  }));
  if (removed) {
    server_->Abandon(id);
    loop_->Poke();  // it ends what reads as zero now
    return {server_->EndingOf(id)};
  }
  switch (done.outcome) {
    case Outcome::kResolved:
    case Outcome::kAlreadyPresent:
    case Outcome::kDiscarded: {
      UFFD_BARRIER("resolve-before-finish", nullptr);
      const Ending ending{EndedBy::kHandler, done.action};
      server_->Finish(id, ending);
      answered_ = true;
      return {ending};
    }
    default:
      server_->Abandon(id);
      loop_->Poke();  // its deadline may have passed meanwhile
      return {{}, done.error};
  }
}

void Session::ReadFaults() noexcept {
  const InFlight call(this);
  if (!call.Admitted() || !leaves_all_to_handlers_) return;
  // Faults of the reader's own wait until the loop looks again.
  if (!server_->HasOwnFaultsLately()) loop_->ReadAside();
}

void Session::LeaveReading() noexcept {
  const InFlight call(this);
  if (call.Admitted()) loop_->LeaveAside();
}

bool Session::TakeChild(uint64_t id) noexcept {
  const InFlight call(this);
  return call.Admitted() && server_->Children().Take(id);
}

Partial Session::OnChild(uint64_t id, ChildCall call, Range range, const void* bytes,
                         uint64_t mode) noexcept {
  const InFlight admitting(this);
  if (!admitting.Admitted()) return {0, kClosedErrno};
  return FillWhileChanging(range, [&](Range rest) {
    const auto* from = static_cast<const uint8_t*>(bytes) + (rest.start - range.start);
    return server_->Children().Call(id, call, rest, from, mode);
  });
}

void Session::CloseChild(uint64_t id) noexcept {
  const InFlight call(this);
  if (!call.Admitted()) return;
  server_->Children().Close(id);
  loop_->Poke();  // a poll under way keeps the descriptor open
}

void Session::SetConsumer(bool present) noexcept {
  server_->SetConsumer(present);
  if (!present) loop_->Poke();
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

bool Session::MayFault(Range range) const noexcept {
  return table_.Overlaps(range, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
}

Status Session::ZeroRegistered(RangeSet* pages) noexcept {
  RangeSet zeroed;
  int error = 0;
  for (const Range& range : pages->Ranges()) {
    table_.ForEach([&](const Registration& registration) {
      const uint64_t size = registration.policy->page_size;
      const Range part = registration.range.Intersect(range);
      for (uint64_t page = part.start; page < part.end && error == 0; page += size) {
        error = Copy({page, page + size}, ZeroPage(size), 0).error;
        if (error == 0) zeroed.Add({page, page + size});
      }
    });
  }
  pages->RemoveAll(&zeroed);
  // Registered no more.
  if (error == 0 || error == ENOENT || error == kClosedErrno) return Done{};
  return Failure{error, "ioctl(UFFDIO_COPY)"};
}

void Session::EndOpenFaults(Haste haste, EndingPatience::Clock::time_point since) noexcept {
  haste_ = haste;
  loop_->FollowNobody();
  server_->EndAll();
  const bool owes = OwesBytes();
  if (!AwaitServed(0, owes, {server_.get(), owes, haste, since})) unserved_ = true;
}

bool Session::EndOpenFaultsOf(uint32_t id) noexcept {
  const auto part = table_.PartOf(id);
  if (!part) return true;
  const bool owes = part->policy->OwesBytes();
  if (part->policy->handler) server_->EndAllOf(id);
  const EndingPatience patience(server_.get(), owes, Haste::kNone, EndingPatience::Clock::now());
  return AwaitServed(id, owes, patience);
}

bool Session::AwaitServed(uint32_t id, bool owes, EndingPatience patience) noexcept {
  const auto await = [&](auto done) {
    while (!done()) {
      const auto soon = EndingPatience::Clock::now() + std::chrono::seconds(1);
      if (closed_ || !patience.Holds() || !loop_->AwaitReading(soon)) return done();
    }
    return true;
  };
  // What was read is served at the end of one pass, what waits to be read at that of the next.
  for (int pass = 0; owes && pass < 2; pass++) {
    const uint64_t seen = loop_->Passes();
    loop_->Poke();
    if (!await([&] { return loop_->Passes() != seen; })) return false;
  }
  const auto has_open = [&] {
    if (loop_->IsReadAside()) return true;
    return id == 0 ? server_->HasOpenFaults() : server_->HasOpenFaultsOf(id);
  };
  if (!has_open() && !(owes && loop_->HasDeferred())) return true;
  loop_->Poke();
  return await([&] { return !has_open() && !(owes && loop_->HasDeferred()); });
}

bool Session::OwesBytes() const noexcept {
  bool owes = false;
  table_.ForEach([&](const Registration& each) { owes = owes || each.policy->OwesBytes(); });
  return owes;
}

void Session::FreeSleepers() noexcept {
  // Counts as a call: a release that another thread has begun closes the descriptor when none is on
  // its way.
  in_flight_++;
  if (!closed_.exchange(true)) {
    UnregisterAndWakeAll();
    server_->Children().CloseAll();
  }
  in_flight_--;
}

void Session::Release(Haste haste) noexcept {
  const std::lock_guard<std::mutex> releasing(release_);
  if (released_) return;
  released_ = true;
  if (failed_with_ != 0) {
    unserved_ = true;
  } else if (!closed_) {
    EndOpenFaults(haste, EndingPatience::Clock::now());
  }
  FreeSleepers();
  UFFD_BARRIER("release-after-wake", nullptr);
  // A call admitted before may sleep in a fault of ours (its source), freed just now; or it may
  // have registered one more range, freed by the second pass.
  const bool quiet = CallsEnded();
  UnregisterAndWakeAll();
  const bool ended = loop_->Stop();
  // What the loop could not end itself was woken above.
  server_->Unregistered({0, UINT64_MAX});
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
      const ChildDescriptor child(FileDescriptor(DecodeEvent(messages[i]).fork_fd), table_);
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
  static_cast<void>(server_.release());
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

// What was unregistered before may be another userfaultfd's by now, whose pages are none of ours to
// poison.
void Session::UnregisterAndWakeAll() noexcept {
  const uint32_t ended = last_ended_;
  table_.ForEach([&](const Registration& registration) {
    if (registration.id > ended) {
      const PageLoader* const loader = registration.policy->loader.get();
      if (loader != nullptr && loader->HasBegun()) PoisonNeeded(registration);
      if (unserved_) PoisonOwed(registration);
      last_ended_ = std::max(last_ended_.load(), registration.id);
    }
    static_cast<void>(UnregisterEach(&uffd_, registration.range).Ok());
    static_cast<void>(uffd_.Wake(registration.range).Ok());
  });
}

// What was not loaded must not become zeros (test 69, B3).
void Session::PoisonNeeded(const Registration& registration) noexcept {
  const Policy& policy = *registration.policy;
  FaultResolver& resolver = server_->Resolver();
  auto deadline = std::chrono::steady_clock::now() + kChangingPatience;
  for (uint64_t start = registration.range.start; start < registration.range.end;
       start += policy.page_size) {
    if (!policy.loader->IsNeeded(registration.OffsetOf(start))) continue;
    const Range page{start, start + policy.page_size};
    bool went = false;
    while (!(went = resolver.Poison(page).outcome != Outcome::kDeferred) &&
           std::chrono::steady_clock::now() < deadline) {
      // A loop that stands still reads no event, and who waits for that keeps the memory changing.
      if (failed_with_ != 0) ReadWhatIsLeft();
      if (!loop_->AwaitReading(deadline)) sched_yield();
    }
    // Of each page: there may be many.
    if (went) deadline = std::chrono::steady_clock::now() + kChangingPatience;
  }
}

void Session::PoisonOwed(const Registration& registration) noexcept {
  // For memory without end, and for mappings that never stop changing. The process may begin to end
  // meanwhile.
  auto last_moment = std::chrono::steady_clock::now() + kPoisonPatience;
  bool hasty = false;
  const auto deadline = [&] {
    if (!hasty && haste_ == Haste::kEnding) {
      hasty = true;
      last_moment = std::min(last_moment, std::chrono::steady_clock::now() + kHastyPoison);
    }
    return last_moment;
  };
  const auto over = [&] { return std::chrono::steady_clock::now() >= deadline(); };
  uffd::PoisonOwed(&uffd_, server_.get(), registration, over, [&] {
    // As in PoisonNeeded. A session that goes on has a loop that will read them.
    if (closed_) ReadWhatIsLeft();
    if (!loop_->AwaitReading(deadline())) sched_yield();
  });
}

bool Session::AwaitEvents() noexcept {
  const InFlight call(this);
  return call.Admitted() && loop_->AwaitPass(std::chrono::steady_clock::now() + kChangingPatience);
}

bool Session::NeedsRescue() noexcept {
  // A disk may take its time.
  const int stuck_ticks = to_the_end_ || server_->IsLoading() ? kSlowTicks : kStuckTicks;
  // Held, so that the descriptor is not closed while the loop is asked. A release on its way needs
  // no rescue.
  const std::unique_lock<std::mutex> not_releasing(release_, std::try_to_lock);
  if (!not_releasing.owns_lock() || released_) return false;
  // An environment that ends finds out by being told of events (EventChannel).
  if (server_->SeesOpenFaults()) notifier_->Poke();
  const int fatal = server_->FatalError();
  const FaultLoop::Pulse pulse = loop_->TakePulse(&seen_progress_);
  if (pulse == FaultLoop::Pulse::kStuck) stuck_ticks_++;
  if (pulse == FaultLoop::Pulse::kWell) stuck_ticks_ = 0;
  if (fatal == 0 && stuck_ticks_ < stuck_ticks) return false;
  failed_with_ = fatal != 0 ? fatal : kStuckErrno;
  return true;
}

bool Session::Owns(Range range) const noexcept {
  const auto registration = table_.Find(range.start);
  return registration.has_value() && registration->range.Contains(range);
}

}  // namespace uffd
