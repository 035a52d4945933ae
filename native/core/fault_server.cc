#include "core/fault_server.h"

#include <algorithm>
#include <utility>

#include "core/file_descriptor.h"
#include "core/kernel_abi.h"
#include "core/stand_ins.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

constexpr std::chrono::milliseconds kRetry(1);

}  // namespace

FaultServer::FaultServer(Userfaultfd* uffd, RegistrationTable* table, FaultQueue* queue,
                         Notifier* notifier, uint32_t consumer_thread) noexcept
    : uffd_(uffd),
      table_(table),
      queue_(queue),
      notifier_(notifier),
      consumer_thread_(consumer_thread),
      resolver_(uffd),
      children_(table, &buffer_) {}

Outcome FaultServer::Serve(const Event& fault) noexcept {
  std::optional<EndedBy> by;
  std::optional<Registration> registration;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    registration = Current(fault, 0);
    if (!registration) return Outcome::kDiscarded;
    by = registration->policy->handler ? ReasonToEndNow(fault, *registration) : EndedBy::kLoop;
    if (by == EndedBy::kOwnThread) last_own_fault_ = Clock::now();
    if (!by) return HandOver(fault, *registration->policy);
  }
  return EndNatively({fault, *by, 0}, std::move(registration));
}

// Why a fault that a handler is to end must be ended here and now, if it must.
std::optional<EndedBy> FaultServer::ReasonToEndNow(
    const Event& fault, const Registration& registration) const noexcept {
  if (ending_ || registration.closing) return EndedBy::kClosed;
  if (consumer_ == Consumer::kGone) return EndedBy::kNoConsumer;
  if (fault.thread_id == consumer_thread_) return EndedBy::kOwnThread;
  if (StandIn::WorksFor(fault.thread_id, consumer_thread_)) return EndedBy::kOwnThread;
  return std::nullopt;
}

bool FaultServer::HasOwnFaultsLately() const noexcept {
  constexpr std::chrono::milliseconds kLately(100);
  const Clock::time_point last = last_own_fault_;
  return last != Clock::time_point{} && Clock::now() - last < kLately;
}

Outcome FaultServer::HandOver(const Event& fault, const Policy& policy) noexcept {
  if (open_.Attach(fault.page, fault.reason)) return Outcome::kAttached;
  Event event = fault;
  event.id = open_.Add(fault, Clock::now() + policy.deadline);
  // As many threads sleep as there are entries: this one asks again until one is free.
  if (event.id == 0) return resolver_.Wake(fault.page).outcome;
  Record(event);
  return Outcome::kHandedOver;
}

bool FaultServer::HandOverAside(const Event& fault) noexcept {
  std::optional<Registration> registration;
  const std::lock_guard<std::mutex> lock(mutex_);
  registration = Current(fault, 0);
  if (!registration) return false;
  HandOver(fault, *registration->policy);
  const std::optional<EndedBy> by = ReasonToEndNow(fault, *registration);
  if (!by) return false;
  const auto now = Clock::now();
  ForEachOpenLike(fault, [&](OpenFaults::Entry* entry) {
    if (entry->due_to == EndedBy::kRemoved) return;
    entry->due = now;
    entry->due_to = *by;
  });
  return true;
}

// The registration of a fault that must still be ended. The thread of any other fault is woken: it
// faults again if it still must.
std::optional<Registration> FaultServer::Current(const Event& fault, uint64_t open_id) noexcept {
  auto registration = table_->Find(fault.address);
  const bool stale = !registration || registration->id != fault.registration ||
                     (open_id == 0 && wake_log_.WokenSince(fault.stamp, fault.page));
  if (!stale) return registration;
  resolver_.Wake(fault.page);
  return std::nullopt;
}

// Looks up, loads without the lock (a disk may take its time), looks again, answers.
Outcome FaultServer::EndNatively(const Task& task,
                                 std::optional<Registration> registration) noexcept {
  const bool observed = registration && registration->policy->observer != nullptr &&
                        task.fault.reason == FaultReason::kWriteProtect;
  Range pages = task.fault.page;
  if (observed &&
      registration->policy->observer->BeforeWrite(&pages) == WriteObserver::Verdict::kWait) {
    return Outcome::kDeferred;
  }
  const bool missing = registration && task.fault.reason == FaultReason::kMissing;
  PageLoader* const loader = missing ? registration->policy->loader.get() : nullptr;
  if (loader != nullptr && !loader->HasBegun()) return Outcome::kDeferred;
  Result<const uint8_t*> loaded = static_cast<const uint8_t*>(nullptr);
  if (missing && registration->policy->source) {
    UFFD_BARRIER("server-before-load", nullptr);
    loaded = Load(task.fault.page, *registration);
    UFFD_BARRIER("server-after-load", nullptr);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  OpenFaults::Entry* const entry = task.open_id == 0 ? nullptr : open_.FindOpen(task.open_id);
  if (task.open_id != 0 && (entry == nullptr || entry->claimed)) return Outcome::kDiscarded;
  registration = Current(task.fault, task.open_id);
  if (!registration) {
    if (entry != nullptr) open_.End(entry, {EndedBy::kRemoved, Action::kWake});
    return Outcome::kDiscarded;
  }
  const FaultResolver::Answer answer = AnswerOf(task, pages, *registration, loaded);
  if (answer.outcome == Outcome::kFailed) Fail(answer.error);
  if (answer.outcome == Outcome::kDeferred || answer.outcome == Outcome::kFailed) {
    if (entry == nullptr) return answer.outcome;
    entry->due = Clock::now() + kRetry;
    entry->due_to = task.by;
    return Outcome::kHandedOver;
  }
  // Somebody else may have read a fault of that page, and not handed it over yet (test 43).
  if (registration->policy->handler) wake_log_.Note(task.fault.page);
  if (entry != nullptr) {
    open_.End(entry, {task.by, answer.action});
    return answer.outcome;
  }
  // Whom the page was open for goes on as well, and what ends it later would end what comes next
  // (test 32, B13).
  if (registration->policy->handler) EndOpen(task.fault, {task.by, answer.action});
  if (answer.outcome == Outcome::kResolved && observed) {
    registration->policy->observer->AfterWrite(Clock::now() - task.fault.read_at);
  } else if (answer.outcome == Outcome::kResolved && loader != nullptr) {
    // What could not be loaded is still needed.
    if (loaded) {
      registration->policy->loader->Touched(registration->OffsetOf(task.fault.page.start),
                                            Clock::now() - task.fault.read_at);
    }
  } else if (answer.outcome == Outcome::kResolved && !registration->policy->written) {
    Event event = task.fault;
    event.ending = {task.by, answer.action};
    Record(event);
  }
  return answer.outcome;
}

FaultResolver::Answer FaultServer::AnswerOf(const Task& task, Range writable,
                                            const Registration& registration,
                                            const Result<const uint8_t*>& loaded) noexcept {
  const Range page = task.fault.page;
  const int injected = UFFD_INJECTED_ERROR();
  if (injected != 0) return resolver_.AnswerOf(injected, page, Action::kNone);
  const Policy& policy = *registration.policy;
  const FaultReason reason = task.fault.reason;
  if (reason == FaultReason::kWriteProtect) {
    const auto unprotect = [&] { return resolver_.Unprotect(writable); };
    return policy.written ? policy.written->Note(task.fault, unprotect) : unprotect();
  }
  if (task.by == EndedBy::kRemoved) return resolver_.Fill(page, nullptr, registration, false);
  if (reason == FaultReason::kMissing) return resolver_.FillMissing(page, loaded, registration);
  if (policy.poison && !policy.source) return resolver_.Poison(page);
  return resolver_.Continue(page, registration, false);
}

Result<const uint8_t*> FaultServer::Load(Range page, const Registration& registration) noexcept {
  const uint64_t offset = registration.OffsetOf(page.start);
  if (registration.given_back && registration.given_back->Has(offset))
    return static_cast<const uint8_t*>(nullptr);
  return buffer_.Load(*registration.policy->source, offset, page.Length());
}

void FaultServer::ServeDue() noexcept {
  const auto now = Clock::now();
  Task tasks[kDueAtOnce];
  size_t count = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_.ForEachOpen([&](OpenFaults::Entry* entry) {
      // The rest is still due when the loop comes by again, which is at once.
      if (entry->claimed || entry->due > now || count == kDueAtOnce) return;
      tasks[count++] = {entry->fault, entry->due_to, entry->id};
    });
  }
  for (size_t i = 0; i < count; i++) {
    static_cast<void>(EndNatively(tasks[i], table_->Find(tasks[i].fault.address)));
  }
}

std::optional<FaultServer::Clock::time_point> FaultServer::NextDue() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return open_.NextDue();
}

bool FaultServer::IsDue() noexcept {
  const auto next = NextDue();
  return next && *next <= Clock::now();
}

bool FaultServer::IsOverdue() noexcept {
  const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  const auto next = lock.owns_lock() ? open_.NextDue() : std::nullopt;
  return next && *next < Clock::now();
}

void FaultServer::Observe(Event event) noexcept {
  const Range range{event.address, event.address + event.length};
  UFFD_BARRIER("server-before-lost", nullptr);
  if (event.type != EventType::kFork) table_->TellLost(range);
  if (const auto registration = table_->Find(event.address)) {
    event.registration = registration->id;
    event.offset = static_cast<int64_t>(registration->OffsetOf(event.address));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  switch (event.type) {
    case EventType::kRemove:
      NoteGivenBack(range);
      EndRemoved(range);
      break;
    case EventType::kUnmap:
      FailUnless(table_->Cut(range));
      EndRemoved(range);
      break;
    case EventType::kRemap:
      FailUnless(table_->Move(range, event.to));
      EndRemoved(range);
      break;
    default:
      break;
  }
  Record(event);
}

void FaultServer::ObserveFork(Event event, bool keep) noexcept {
  UFFD_BARRIER("server-before-fork", nullptr);
  // What nobody keeps is closed at the end, without the lock.
  ChildDescriptor child(FileDescriptor(std::exchange(event.fork_fd, -1)), *table_);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (keep && consumer_ == Consumer::kPresent) event.child = children_.Add(&child);
  Record(event);
}

void FaultServer::NoteGivenBack(Range range) noexcept {
  table_->ForEach([&](const Registration& each) {
    const Range part = each.range.Intersect(range);
    if (part.Empty()) return;
    if (PageLoader* const loader = each.policy->loader.get()) {
      if (loader->HasBegun()) loader->GivenBack(each.OffsetOf(part.start), part.Length());
      return;
    }
    if (!each.given_back) return;
    children_.ParentGivesBack(each, part);
    each.given_back->Add(each.OffsetOf(part.start), part.Length());
  });
}

// What is gone must not be filled with what was meant for it (test 32, B23): missing pages are
// zeros now, and everybody else faults again. At once while the mapping is still changing would be
// EAGAIN, so ServeDue does it.
void FaultServer::EndRemoved(Range range) noexcept {
  open_.ForEachOpen([&](OpenFaults::Entry* entry) {
    if (!entry->fault.page.Overlaps(range)) return;
    entry->due = Clock::now();
    entry->due_to = EndedBy::kRemoved;
  });
}

void FaultServer::EndOpen(const Event& fault, Ending ending) noexcept {
  ForEachOpenLike(fault, [&](OpenFaults::Entry* entry) {
    if (!entry->claimed) open_.End(entry, ending);
  });
}

void FaultServer::Record(const Event& event) noexcept {
  if (!queue_->Push(event)) children_.Close(event.child);
  notifier_->Poke();
}

void FaultServer::FailUnless(const Status& done) noexcept {
  if (!done) Fail(done.Error().error);
}

void FaultServer::Fail(int error) noexcept {
  int none = 0;
  fatal_error_.compare_exchange_strong(none, error);
  notifier_->Poke();
}

Status FaultServer::Prepare(const Policy& policy) noexcept {
  if (policy.handler) {
    Result<std::shared_ptr<Mapping>> entries = OpenFaults::MakeEntries();
    if (!entries) return entries.Error();
    const std::lock_guard<std::mutex> lock(mutex_);
    open_.Prepare(&entries.Value());
  }
  if (!policy.source) return Done{};
  return buffer_.Prepare(policy.page_size);
}

void FaultServer::Woken(Range range) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  wake_log_.Note(range);
  // A thread that was woken may have faulted again already, and been attached to the fault that
  // ends here: without this wake nobody would end its fault (test 32).
  if (open_.EndIn(range, {EndedBy::kCall, Action::kWake})) resolver_.Wake(range);
}

void FaultServer::Unregistered(Range range) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  wake_log_.Note(range);
  if (open_.EndIn(range, {EndedBy::kClosed, Action::kWake})) resolver_.Wake(range);
}

void FaultServer::SetConsumer(bool present) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    consumer_ = present ? Consumer::kPresent : Consumer::kGone;
    if (present) return;
    MakeDue(EndedBy::kNoConsumer);
  }
  children_.CloseUntaken();
}

void FaultServer::EndAll() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  ending_ = true;
  MakeDue(EndedBy::kClosed);
}

void FaultServer::EndAllOf(uint32_t registration) noexcept {
  table_->SetClosing(registration, true);
  const std::lock_guard<std::mutex> lock(mutex_);
  MakeDue(EndedBy::kClosed, registration);
}

// A claimed one too: it is due when its claim fails. Of one registration, or (0) of all.
void FaultServer::MakeDue(EndedBy by, uint32_t registration) noexcept {
  const auto now = Clock::now();
  open_.ForEachOpen([&](OpenFaults::Entry* entry) {
    if (registration != 0 && entry->fault.registration != registration) return;
    if (entry->due_to == EndedBy::kRemoved) return;
    entry->due = now;
    entry->due_to = by;
  });
}

bool FaultServer::HasOpenFaults() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return open_.OpenCount() > 0;
}

bool FaultServer::SeesOpenFaults() noexcept {
  const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  return lock.owns_lock() && open_.OpenCount() > 0;
}

bool FaultServer::HasOpenFaultsOf(uint32_t registration) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  bool any = false;
  open_.ForEachOpen([&](const OpenFaults::Entry* entry) {
    any = any || entry->fault.registration == registration;
  });
  return any;
}

Range FaultServer::NextOwed(const Registration& registration, uint64_t from,
                            uint64_t most) noexcept {
  const Policy& policy = *registration.policy;
  const Range whole = registration.range;
  const uint64_t ends = policy.source ? policy.source->End() : UINT64_MAX;
  const uint64_t base = registration.base;
  const uint64_t bytes = ends <= base ? 0 : std::min(ends - base, whole.Length());
  const uint64_t last = Range{0, bytes}.RoundOutward(policy.page_size).end + whole.start;
  const auto is_owed = [&](uint64_t page) {
    return !registration.given_back || !registration.given_back->Has(registration.OffsetOf(page));
  };
  const std::lock_guard<std::mutex> lock(mutex_);  // what was given back
  Range owed{from, from};
  while (owed.start < last && !is_owed(owed.start)) owed.start += policy.page_size;
  owed.end = owed.start;
  while (owed.end < last && owed.Length() < most && is_owed(owed.end)) {
    owed.end += policy.page_size;
  }
  return owed;
}

std::optional<FaultServer::Claim> FaultServer::ClaimFault(uint64_t id) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  OpenFaults::Entry* const entry = open_.FindOpen(id);
  if (entry == nullptr || entry->claimed || entry->due_to == EndedBy::kRemoved) return std::nullopt;
  auto registration = table_->Find(entry->fault.address);
  if (!registration || registration->id != entry->fault.registration) return std::nullopt;
  entry->claimed = true;
  return Claim{entry->fault.page, std::move(*registration), entry->fault.reason};
}

std::optional<FaultResolver::Answer> FaultServer::AnswerClaim(uint64_t id, const Claim& claim,
                                                              bool poison, const uint8_t* bytes,
                                                              bool arm) noexcept {
  const EventGate::Pass pass(&gate_);
  if (IsRemoved(id)) return std::nullopt;
  if (poison) return resolver_.Poison(claim.page);
  switch (claim.reason) {
    case FaultReason::kWriteProtect:
      return resolver_.Unprotect(claim.page);
    case FaultReason::kMinor:
      return resolver_.Continue(claim.page, claim.registration, arm);
    case FaultReason::kMissing:
      break;
  }
  return resolver_.Fill(claim.page, bytes, claim.registration, arm);
}

bool FaultServer::IsRemoved(uint64_t id) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const OpenFaults::Entry* const entry = open_.FindOpen(id);
  return entry != nullptr && entry->due_to == EndedBy::kRemoved;
}

// A thread may have faulted on the page once more while it was claimed, and been attached after the
// answer woke those who were: it is woken after the end.
void FaultServer::Finish(uint64_t id, Ending ending) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  OpenFaults::Entry* const entry = open_.FindOpen(id);
  if (entry == nullptr) return;
  const Range page = entry->fault.page;
  const bool attached = entry->attached;
  wake_log_.Note(page);
  open_.End(entry, ending);
  if (attached) resolver_.Wake(page);
}

void FaultServer::Abandon(uint64_t id) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (OpenFaults::Entry* const entry = open_.FindOpen(id)) entry->claimed = false;
}

Ending FaultServer::EndingOf(uint64_t id) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Ending ending = open_.EndingOf(id);
  const OpenFaults::Entry* const entry = open_.FindOpen(id);
  if (entry != nullptr && entry->due_to == EndedBy::kRemoved) {
    return {EndedBy::kRemoved, Action::kNone};
  }
  return ending;
}

}  // namespace uffd
