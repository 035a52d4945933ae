#include "core/forked_children.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <new>
#include <utility>

#include "core/fault_resolver.h"
#include "core/kernel_abi.h"

namespace uffd {
namespace {

// A child that has ended is found within this time.
constexpr std::chrono::milliseconds kLookEvery(100);

}  // namespace

// Keeps a child's descriptor open while it is used without the lock.
class ForkedChildren::Use {
 public:
  Use(ForkedChildren* all, uint64_t id) noexcept : all_(all) {
    const std::lock_guard<std::mutex> lock(all_->mutex_);
    child_ = all_->Find(id);
    if (child_ != nullptr) child_->users++;
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() {
    if (child_ != nullptr) all_->LetGo(child_);
  }
  explicit operator bool() const noexcept { return child_ != nullptr; }
  Child* operator->() const noexcept { return child_; }
  Child* Get() const noexcept { return child_; }

 private:
  ForkedChildren* const all_;
  Child* child_ = nullptr;
};

Status ForkedChildren::Prepare() noexcept {
  Result<std::shared_ptr<Mapping>> nowhere = Mapping::Anonymous(PageSize());
  if (!nowhere) return nowhere.Error();
  nowhere_ = std::move(nowhere.Value());
  constexpr size_t kRoom = kMost * ChildRanges::kMost * sizeof(ChildRange);
  Result<std::shared_ptr<Mapping>> ranges = Mapping::Anonymous(kRoom);
  if (!ranges) return ranges.Error();
  ranges_ = std::move(ranges.Value());
  children_.reset(new (std::nothrow) std::array<Child, kMost>());
  if (!children_) return Failure{ENOMEM, "malloc"};
  auto* room = reinterpret_cast<ChildRange*>(ranges_->Data());
  for (Child& child : *children_) {
    child.registered = ChildRanges(room);
    room += ChildRanges::kMost;
  }
  return Done{};
}

ForkedChildren::Child* ForkedChildren::Find(uint64_t id) noexcept {
  if (!children_ || id == 0) return nullptr;
  const auto found = std::find_if(children_->begin(), children_->end(), [id](const Child& child) {
    return child.id == id && !child.closing;
  });
  return found == children_->end() ? nullptr : &*found;
}

Userfaultfd ForkedChildren::Remove(Child* child) noexcept {
  Userfaultfd uffd = std::move(child->uffd);
  const ChildRanges none = child->registered.Emptied();
  *child = Child{};
  child->registered = none;
  open_--;
  return uffd;
}

void ForkedChildren::LetGo(Child* child) noexcept {
  Userfaultfd last;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (--child->users == 0 && child->closing) last = Remove(child);
}

template <typename Matches>
void ForkedChildren::CloseWhere(Matches matches) noexcept {
  if (!children_) return;
  for (Child& child : *children_) {
    ChildRanges registered;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (child.id == 0 || child.closing || !matches(child)) continue;
      child.closing = true;
      child.users++;
      registered = child.registered;
    }
    // Also while the loop uses it: when this returns, the child waits for nobody. Without the lock:
    // it may take the child's own.
    registered.ForEach(
        [&child](const ChildRange& each) { UnregisterOfChild(&child.uffd, each.range); });
    LetGo(&child);
  }
}

void ForkedChildren::Close(uint64_t id) noexcept {
  CloseWhere([id](const Child& child) { return child.id == id; });
}

void ForkedChildren::CloseUntaken() noexcept {
  CloseWhere([](const Child& child) { return !child.taken; });
}

void ForkedChildren::CloseAll() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  CloseWhere([](const Child&) { return true; });
}

bool ForkedChildren::Take(uint64_t id) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  Child* const child = Find(id);
  if (child != nullptr) child->taken = true;
  return child != nullptr;
}

bool ForkedChildren::IsOpen(uint64_t id) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return Find(id) != nullptr;
}

ForkedChildren::Child* ForkedChildren::FreePlace() noexcept {
  const auto found = std::find_if(children_->begin(), children_->end(),
                                  [](const Child& child) { return child.id == 0; });
  return found == children_->end() ? nullptr : &*found;
}

uint64_t ForkedChildren::Add(ChildDescriptor* child) noexcept {
  if (!child->IsOpen() || !children_) return 0;
  // Most children call exec at once, so many a place is taken by one that has ended.
  if (open_ > kMost / 2) CloseEnded();
  const std::lock_guard<std::mutex> lock(mutex_);
  Child* const place = ending_ ? nullptr : FreePlace();
  if (place == nullptr) return 0;
  bool fits = true;
  table_->ForEach([&](const Registration& each) {
    const Policy& policy = *each.policy;
    const ChildRange range{each.range, policy.page_size, each.id, policy.source != nullptr};
    fits = fits && place->registered.Add(range);
  });
  if (!fits) {
    place->registered = place->registered.Emptied();
    return 0;
  }
  if (open_++ == 0) next_look_ = Clock::now() + kLookEvery;
  place->id = next_id_++;
  place->uffd = child->Take();
  return place->id;
}

void ForkedChildren::ParentGivesBack(const Registration& registration, Range part) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (open_ == 0) return;
  const uint64_t page_size = registration.policy->page_size;
  const auto had = [&](uint64_t page) {
    return page < part.end && !registration.given_back->Has(registration.OffsetOf(page));
  };
  // In runs: there may be millions of pages, and whoever gives them back waits for this.
  for (uint64_t page = part.start; page < part.end; page += page_size) {
    const uint64_t first = page;
    while (had(page)) page += page_size;
    if (page == first) continue;
    for (Child& child : *children_) {
      if (child.id != 0 && child.parents.Complete()) child.parents.Add({first, page});
    }
  }
}

bool ForkedChildren::CloseOldest() noexcept {
  uint64_t oldest = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (open_ == 0) return false;
    for (const Child& child : *children_) {
      if (child.id == 0 || child.closing) continue;
      if (oldest == 0 || child.id < oldest) oldest = child.id;
    }
  }
  if (oldest == 0) return false;
  Close(oldest);
  return true;
}

bool ForkedChildren::HasEnded(Child* child) const noexcept {
  // Writes nothing: nobody has registered memory there. A child that lives says ENOENT, or EAGAIN.
  const Status asked = child->uffd.WriteProtect(nowhere_->AddressRange(), 0);
  return !asked && asked.Error().error == ESRCH;
}

void ForkedChildren::CloseEnded() noexcept {
  pollfd unused[kMost];
  uint64_t ids[kMost];
  const size_t count = WaitFor(unused, ids);
  for (size_t i = 0; i < count; i++) {
    const Use child(this, ids[i]);
    if (child && HasEnded(child.Get())) Close(ids[i]);
  }
}

void ForkedChildren::LookAfter() noexcept {
  const auto next = NextLook();
  const auto now = Clock::now();
  if (!next || *next > now) return;
  CloseEnded();
  next_look_ = now + kLookEvery;
}

std::optional<ForkedChildren::Clock::time_point> ForkedChildren::NextLook() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (open_ == 0) return std::nullopt;
  return next_look_;
}

size_t ForkedChildren::WaitFor(pollfd* sources, uint64_t* ids) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (open_ == 0) return 0;
  size_t count = 0;
  for (const Child& child : *children_) {
    if (child.id == 0 || child.closing) continue;
    sources[count] = {child.uffd.Fd(), POLLIN, 0};
    ids[count++] = child.id;
  }
  return count;
}

bool ForkedChildren::HaveWaiting() noexcept {
  pollfd sources[kMost];
  const std::lock_guard<std::mutex> lock(mutex_);
  if (open_ == 0) return false;
  size_t count = 0;
  for (const Child& child : *children_) {
    if (child.id != 0) sources[count++] = {child.uffd.Fd(), POLLIN, 0};
  }
  return poll(sources, count, 0) > 0;
}

// It has what its parent has.
void ForkedChildren::CloseGrandchild(const Child& child, FileDescriptor fd) noexcept {
  if (!fd) return;
  Userfaultfd grandchild = Userfaultfd::Adopt(std::move(fd));
  child.registered.ForEach(
      [&grandchild](const ChildRange& each) { UnregisterOfChild(&grandchild, each.range); });
}

// Events are applied before faults are answered, as for the parent.
void ForkedChildren::Serve(uint64_t id) noexcept {
  const Use child(this, id);
  if (!child) return;
  // One batch: a child that faults without a pause must not keep others waiting.
  uffd_msg messages[16];
  const Result<size_t> count = child->uffd.Read(messages, std::size(messages));
  bool served = count.Ok();  // else no descriptor is left for the child of this child
  Event events[std::size(messages)];
  for (size_t i = 0; count && i < count.Value(); i++) {
    events[i] = DecodeEvent(messages[i]);
    CloseGrandchild(*child.Get(), FileDescriptor(events[i].fork_fd));
    const Range range{events[i].address, events[i].address + events[i].length};
    if (events[i].type == EventType::kRemove) child->given_back.Add(range);
    if (events[i].type == EventType::kRemap) {
      const Range to{events[i].to, events[i].to + events[i].length};
      const std::lock_guard<std::mutex> lock(mutex_);
      served = child->registered.AddMoved(to) && served;
    }
  }
  for (size_t i = 0; served && i < count.Value(); i++) {
    if (events[i].type == EventType::kPageFault) served = Answer(child.Get(), events[i]);
  }
  if (!served) Close(id);
}

// False: there is no answer.
bool ForkedChildren::Answer(Child* child, const Event& fault) noexcept {
  const ChildRange* const known = child->registered.Find(fault.address);
  if (known == nullptr || known->registration == 0) return false;
  FaultResolver resolver(&child->uffd, FaultResolver::Memory::kChild);
  const Range page = known->PageOf(fault.address);
  const auto registration = table_->Find(fault.address);
  if (!registration || registration->id != known->registration) {
    // Bytes that cannot be had are not made up.
    if (fault.reason != FaultReason::kMissing || !known->has_source) return false;
    return resolver.Poison(page).outcome != Outcome::kFailed;
  }
  const Policy& policy = *registration->policy;
  FaultResolver::Answer answer{};
  switch (fault.reason) {
    case FaultReason::kWriteProtect:
      answer = resolver.Unprotect(page);
      break;
    case FaultReason::kMinor:
      answer =
          policy.poison ? resolver.Poison(page) : resolver.Continue(page, *registration, false);
      break;
    case FaultReason::kMissing: {
      const Result<const uint8_t*> loaded =
          policy.source ? Load(*child, page, *registration) : Result<const uint8_t*>(nullptr);
      answer = resolver.FillMissing(page, loaded, *registration);
      break;
    }
  }
  // A moment later its event of a changing mapping has been read: the thread asks again.
  if (answer.outcome == Outcome::kDeferred) resolver.Wake(page);
  return answer.outcome != Outcome::kFailed;
}

Result<const uint8_t*> ForkedChildren::Load(const Child& child, Range page,
                                            const Registration& registration) noexcept {
  if (child.given_back.Overlaps(page)) return static_cast<const uint8_t*>(nullptr);
  const uint64_t offset = registration.OffsetOf(page.start);
  const bool before_fork = registration.given_back->Has(offset) && !child.parents.Overlaps(page);
  // Whether it was given back is not known: bytes are not made up.
  if (!child.given_back.Complete() || (before_fork && !child.parents.Complete())) {
    return Failure{ENODATA, "read(userfaultfd)"};
  }
  if (before_fork) return static_cast<const uint8_t*>(nullptr);
  return buffer_->Load(*registration.policy->source, offset, page.Length());
}

Partial ForkedChildren::Call(uint64_t id, ChildCall call, Range range, const void* bytes,
                             uint64_t mode) noexcept {
  const Use child(this, id);
  if (!child) return {0, kClosedErrno};
  Userfaultfd& uffd = child->uffd;
  const auto whole = [range](const Status& status) {
    if (status) return Partial{static_cast<int64_t>(range.Length()), 0};
    return Partial{0, status.Error().error};
  };
  Partial done;
  switch (call) {
    case ChildCall::kWriteProtect:
      done = whole(uffd.WriteProtect(range, mode));
      break;
    case ChildCall::kWake:
      done = whole(uffd.Wake(range));
      break;
    case ChildCall::kCopy:
      done = uffd.Copy(range, bytes, mode);
      break;
    case ChildCall::kZeropage:
      done = uffd.Zeropage(range, mode);
      break;
    case ChildCall::kContinue:
      done = uffd.Continue(range, mode);
      break;
    case ChildCall::kPoison:
      done = uffd.Poison(range, mode);
      break;
    case ChildCall::kUnregister:
      done = whole(uffd.Unregister(range));
      static_cast<void>(uffd.Wake(range).Ok());
      break;
  }
  if (done.error == 0 || !HasEnded(child.Get())) return done;
  Close(id);
  return {done.bytes, kClosedErrno};
}

}  // namespace uffd
