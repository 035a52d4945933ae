#include "core/lazy_load.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "core/kernel_abi.h"
#include "core/lost_pages.h"
#include "core/native_thread.h"
#include "core/no_reader.h"
#include "core/sha256.h"
#include "core/test_barrier.h"
#include "core/unpoison.h"
#include "core/wp_async.h"

namespace uffd {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kRequired = UFFD_FEATURE_POISON | UFFD_FEATURE_EVENT_REMOVE |
                               UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP;
constexpr uint64_t kOptional =
    UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_THREAD_ID;
// Installed by the background with one ioctl: what a fault may have to wait for.
constexpr uint64_t kBatchBytes = 256UL * 1024;
// Of a page that is loaded by the thread that touched it.
constexpr size_t kTouchBuffers = 4;
// How long the background stands aside for faults that keep coming, before each batch.
constexpr std::chrono::milliseconds kAside(2);
// How long the kernel may be without memory.
constexpr std::chrono::seconds kPatience(5);

constexpr uint64_t kForTracking =
    UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC;

OpenRequest RequestFor(LazyLoad::Resolver resolver, bool tracked) noexcept {
  const bool in_thread = resolver == LazyLoad::Resolver::kInThread;
  OpenRequest request{kRequired, kOptional, in_thread ? UserMode::kOnly : UserMode::kNever};
  if (in_thread) request.required_features |= UFFD_FEATURE_SIGBUS;
  if (!tracked) return request;
  request.required_features |= kForTracking;
  request.optional_features |= UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  return request;
}

void AdviseForks(const Range& pages, int advice) noexcept {
  static_cast<void>(madvise(reinterpret_cast<void*>(pages.start), pages.Length(), advice));
}

}  // namespace

// On the thread that touched a page.
class LazyLoad::TouchServer final : public InThreadServer {
 public:
  static Result<std::unique_ptr<InThreadServer>> Create(Part* part, Session* session) noexcept {
    auto buffers = Mapping::Anonymous(kTouchBuffers * part->memory.page_size);
    if (!buffers) return buffers.Error();
    return std::unique_ptr<InThreadServer>(
        new TouchServer(part, session, std::move(buffers.Value())));
  }

  bool Serve(Range page) noexcept override {
    const auto start = Clock::now();
    while (!part_->loader->HasBegun() && !session_->Released()) sched_yield();
    const size_t taken = TakeBuffer();
    uint8_t* const buffer = buffers_->Data() + taken * page.Length();
    const uint64_t offset = page.start - part_->memory.pages.start;
    Outcome outcome = Outcome::kDeferred;
    while (outcome == Outcome::kDeferred) {
      const auto loaded = part_->loader->Load(offset, page.Length(), buffer);
      UFFD_BARRIER("touch-after-load", nullptr);
      outcome = loaded ? session_->FillPage(part_->registration, page, loaded.Value()).outcome
                       : Outcome::kFailed;
      if (outcome == Outcome::kDeferred) sched_yield();
    }
    if (outcome == Outcome::kResolved) part_->loader->Touched(offset, Clock::now() - start);
    taken_[taken].store(false, std::memory_order_release);
    if (outcome != Outcome::kFailed) return true;
    // For system calls, which would find a hole. The signal is the same before and after.
    static_cast<void>(session_->PoisonPage(page));
    return false;
  }

 private:
  TouchServer(Part* part, Session* session, std::shared_ptr<Mapping> buffers) noexcept
      : part_(part), session_(session), buffers_(std::move(buffers)) {}

  size_t TakeBuffer() noexcept {
    for (;;) {
      for (size_t i = 0; i < kTouchBuffers; i++) {
        if (!taken_[i].exchange(true, std::memory_order_acquire)) return i;
      }
      sched_yield();
    }
  }

  Part* const part_;
  Session* const session_;
  const std::shared_ptr<Mapping> buffers_;
  std::array<std::atomic<bool>, kTouchBuffers> taken_{};
};

LazyLoad::LazyLoad(std::shared_ptr<Session> session, std::shared_ptr<LoadState> state,
                   std::vector<LoadState::Touch> order, const Options& options,
                   std::function<void()> over) noexcept
    : options_(options),
      session_(std::move(session)),
      state_(std::move(state)),
      order_(std::move(order)),
      when_over_(std::move(over)) {}

LazyLoad::Started LazyLoad::Start(const std::vector<Memory>& memories,
                                  const std::shared_ptr<const SnapshotPages>& pages,
                                  std::vector<LoadState::Touch> order, const Options& options,
                                  std::function<void()> over) noexcept {
  Started started;
  const auto fail = [&](Failure failure) {
    started.failure = failure;
    return started;
  };
  if (!HasSha256()) return fail({ENOSYS, "SHA256_Init"});
  uint64_t page_count = 0;
  std::vector<Range> ranges;
  for (const Memory& memory : memories) {
    page_count += memory.pages.Length() / memory.page_size;
    ranges.push_back(memory.pages);
  }
  // First of all: whoever tracks the memory, maps it once more or loads it from here on waits for
  // the end, and who came before is seen.
  const auto entry = HolderList::Get().AddLoad(std::move(ranges));
  const auto give_up = [&](Failure failure) {
    HolderList::Get().Remove(entry.get());
    return fail(failure);
  };
  bool tracked = false;
  const Status prepared = Prepare(memories, &tracked);
  if (!prepared) return give_up(prepared.Error());
  auto state = LoadState::Create(page_count);
  if (!state) return give_up(state.Error());
  Session::Opened opened =
      Session::Open(RequestFor(options.resolver, tracked), NoReader(), Session::Loop::kStaysAwake);
  started.attempts = std::move(opened.attempts);
  started.missing_features = opened.missing_features;
  if (opened.session == nullptr) return give_up(opened.failure);
  opened.session->ServeToTheEnd();
  std::shared_ptr<LazyLoad> load(new LazyLoad(std::move(opened.session), std::move(state.Value()),
                                              std::move(order), options, std::move(over)));
  load->entry_ = entry;
  const Status added = load->AddParts(memories, pages);
  if (!added) {
    load->LetGoOfAll();
    return give_up(added.Error());
  }
  // The thread first: once the memories are empty nothing may fail any more.
  auto* self = new std::shared_ptr<LazyLoad>(load);
  const Result<pthread_t> thread = StartNativeThread("uffd-load", &LazyLoad::ThreadMain, self);
  if (!thread) {
    delete self;
    load->LetGoOfAll();
    return give_up(thread.Error());
  }
  pthread_detach(thread.Value());
  const Status empty = load->Empty();
  load->Begin(empty.Ok());
  if (!empty) {
    load->Forget();
    return fail(empty.Error());
  }
  started.load = std::move(load);
  return started;
}

Status LazyLoad::Prepare(const std::vector<Memory>& memories, bool* tracked) noexcept {
  for (const Memory& memory : memories) {
    if (memory.mapping != nullptr) {
      // Its pages come back as those of a file that only the kernel has.
      const bool is_private_file =
          !memory.mapping->IsShared() && memory.mapping->PagesOf() == Backing::kMemfd;
      // What is touched through the other one would be zero here.
      if (is_private_file || memory.mapping->IsAliased()) return Failure{EOPNOTSUPP, "restore"};
      Status unpoisoned = Unpoison(*memory.mapping, memory.pages);
      if (!unpoisoned) return unpoisoned;
    }
    *tracked = *tracked || WpAsyncDomain().Tracks(memory.pages);
  }
  return Done{};
}

Status LazyLoad::AddParts(const std::vector<Memory>& memories,
                          const std::shared_ptr<const SnapshotPages>& pages) noexcept {
  uint64_t largest = kBatchBytes;
  for (uint32_t i = 0; i < memories.size(); i++) {
    const Memory& memory = memories[i];
    auto loader = LazyMemory::Create(pages, i, memory.pages.Length(), memory.page_size, state_);
    if (!loader) return loader.Error();
    Part part;
    part.memory = memory;
    part.loader = std::move(loader.Value());
    parts_.push_back(std::move(part));
    largest = std::max(largest, memory.page_size);
  }
  auto buffer = Mapping::Anonymous(largest);
  if (!buffer) return buffer.Error();
  buffer_ = std::move(buffer.Value());
  for (Part& part : parts_) {
    if (part.memory.pages.Empty()) continue;
    part.tracked = WpAsyncDomain().Tracks(part.memory.pages);
    // Since a moment ago: this userfaultfd has not the marks for it.
    if (part.tracked && (session_->Features() & UFFD_FEATURE_WP_ASYNC) == 0) {
      return Failure{EBUSY, "ioctl(UFFDIO_REGISTER)"};
    }
    const Status registered = part.tracked ? HandOver(&part) : Register(&part);
    if (!registered) return registered;
  }
  return Done{};
}

Status LazyLoad::HandOver(Part* part) noexcept {
  const auto take = [&](const RangeSet& tracked) -> Status {
    Status registered = Register(part);
    const std::lock_guard<std::mutex> lock(keeping_);
    if (registered) kept_.AddAll(tracked);
    return registered;
  };
  return WpAsyncDomain().HandOver(part->memory.pages, shared_from_this(), take);
}

Status LazyLoad::Register(Part* part) noexcept {
  auto policy = std::make_shared<Policy>();
  policy->mode = UFFDIO_REGISTER_MODE_MISSING | (part->tracked ? UFFDIO_REGISTER_MODE_WP : 0);
  policy->page_size = part->memory.page_size;
  policy->source = part->loader;
  policy->loader = part->loader;
  policy->poison = true;
  policy->zeros = ZeroPage(policy->page_size);
  if (policy->zeros == nullptr) return Failure{ENOMEM, "mmap"};
  Registration& registration = part->registration;
  registration.range = part->memory.pages;
  registration.policy = policy;
  if (options_.resolver == Resolver::kInThread) {
    auto server = TouchServer::Create(part, session_.get());
    if (!server) return server.Error();
    part->server = std::move(server.Value());
    auto resolver =
        SigbusResolver::Start(part->memory.pages, policy->page_size, part->server.get());
    if (!resolver) return resolver.Error();
    part->resolver = std::move(resolver.Value());
  }
  const auto registered = session_->Register(part->memory.pages, policy, part->memory.mapping);
  if (!registered) return registered.Error();
  registration.id = registered.Value().id;
  registration.ioctls = registered.Value().ioctls;
  return Done{};
}

Status LazyLoad::Empty() noexcept {
  emptied_ = parts_.empty();
  for (const Part& part : parts_) {
    if (part.memory.pages.Empty()) continue;
    const Status empty = Empty(part.memory);
    if (!empty) return empty;
    LostPages::Get().Forget(part.memory.pages);
    emptied_ = true;
    UFFD_BARRIER("load-between-emptying", nullptr);
  }
  // The loop knows of it all: what goes from here on was given back. However long that takes: it
  // would take all for given back.
  while (!session_->AwaitEvents()) {
    if (session_->Released()) return Failure{ETIMEDOUT, "restore"};
  }
  for (const Part& part : parts_) {
    if (!part.tracked) continue;
    // Before they are armed again, so that nobody finds them clean; and after, for newcomers.
    WpAsyncDomain().NoteLoaded(part.memory.pages);
    // Where that fails everything is reported as written.
    static_cast<void>(Arm(part.memory.pages).Ok());
    WpAsyncDomain().NoteLoaded(part.memory.pages);
  }
  return Done{};
}

Status LazyLoad::Empty(const Memory& memory) noexcept {
  // Memory of our own is in no forked child anyway; one that has not been loaded must not be.
  if (memory.mapping == nullptr) AdviseForks(memory.pages, MADV_DONTFORK);
  if (memory.mapping != nullptr && memory.mapping->IsShared()) {
    return memory.mapping->Discard(memory.pages);
  }
  Status discarded = Discard(memory.pages);
  if (discarded || discarded.Error().error != EINVAL) return discarded;
  // Locked in memory (mlockall).
  if (madvise(reinterpret_cast<void*>(memory.pages.start), memory.pages.Length(),
              MADV_DONTNEED_LOCKED) != 0) {
    return Failure{errno, "madvise(MADV_DONTNEED_LOCKED)"};
  }
  return Done{};
}

// What was emptied is loaded or poisoned, and never zeros; what was not is left alone.
void LazyLoad::Begin(bool empty) noexcept {
  if (emptied_) state_->Begin();
  session_->Retry();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    phase_ = empty ? Phase::kLoading : Phase::kGivenUp;
  }
  changed_.notify_all();
}

bool LazyLoad::AwaitBegin() noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return phase_ != Phase::kEmptying; });
  return phase_ == Phase::kLoading;
}

void* LazyLoad::ThreadMain(void* self) noexcept {
  const std::unique_ptr<std::shared_ptr<LazyLoad>> load(
      static_cast<std::shared_ptr<LazyLoad>*>(self));
  (*load)->End((*load)->AwaitBegin() && (*load)->Fill());
  return nullptr;
}

bool LazyLoad::Fill() noexcept {
  UFFD_BARRIER("load-before-first", nullptr);
  if (!FillInOrder()) return false;
  for (Part& part : parts_) {
    if (!FillPart(&part)) return false;
  }
  for (Part& part : parts_) {
    if (part.tracked && options_.resolver == Resolver::kInThread) FillHoles(&part);
  }
  // Also what a thread found that touched it.
  return state_->Error().Ok();
}

// Memory that stays registered when all is loaded: a hole would fail system calls for ever. Armed,
// as all that is loaded (B16).
void LazyLoad::FillHoles(Part* part) noexcept {
  const uint64_t size = part->memory.page_size;
  for (uint64_t start = part->memory.pages.start; start < part->memory.pages.end; start += size) {
    const Range page{start, start + size};
    while (session_->FillPage(part->registration, page, nullptr).outcome == Outcome::kDeferred) {
      sched_yield();
    }
  }
}

bool LazyLoad::FillInOrder() noexcept {
  for (size_t i = 0; i < order_.size();) {
    const auto [memory, page] = order_[i];
    uint64_t count = 1;
    while (++i < order_.size() && order_[i].memory == memory && order_[i].page == page + count) {
      count++;
    }
    Part& part = parts_[memory];
    const uint64_t end = page + count;
    for (uint64_t at = page; at < end;) {
      const uint64_t needed = part.loader->NextNeeded(at);
      if (needed >= end) break;
      at = needed + part.loader->NeededFrom(needed, end - needed);
      if (!FillSome(&part, needed, at - needed)) return false;
    }
  }
  return true;
}

bool LazyLoad::FillPart(Part* part) noexcept {
  LazyMemory& loader = *part->loader;
  const uint64_t most = std::max<uint64_t>(kBatchBytes / loader.PageBytes(), 1);
  for (uint64_t page = loader.NextNeeded(0); page < loader.PageCount();
       page = loader.NextNeeded(page)) {
    // Behind the next multiple: with the files' own windows.
    const uint64_t count = loader.NeededFrom(page, most - page % most);
    if (!FillSome(part, page, std::max<uint64_t>(count, 1))) return false;
  }
  return true;
}

// Reads up to a batch of them at a time and installs those that nobody has installed meanwhile.
bool LazyLoad::FillSome(Part* part, uint64_t page, uint64_t count) noexcept {
  LazyMemory& loader = *part->loader;
  const uint64_t size = loader.PageBytes();
  const uint64_t most = std::max<uint64_t>(kBatchBytes / size, 1);
  const uint64_t end = page + count;
  for (uint64_t first = page; first < end; first = std::min(first + most, end)) {
    const uint64_t last = std::min(first + most, end);
    UFFD_BARRIER("load-before-batch", nullptr);
    if (!MakeRoom(*part, first, last)) return false;
    // Given back or touched meanwhile, all of it.
    if (loader.NextNeeded(first) >= last) continue;
    if (!loader.Read(first, last - first, buffer_->Data())) return false;
    UFFD_BARRIER("load-after-read", nullptr);
    uint64_t at_once = last - first;
    const auto deadline = Clock::now() + kPatience;
    for (uint64_t at = loader.NextNeeded(first); at < last; at = loader.NextNeeded(at)) {
      const uint64_t some = loader.NeededFrom(at, std::min(last - at, at_once));
      const uint64_t start = part->memory.pages.start + at * size;
      const Partial done = session_->FillPages(part->registration, {start, start + some * size},
                                               buffer_->Data() + (at - first) * size);
      const uint64_t filled = done.bytes > 0 ? static_cast<uint64_t>(done.bytes) / size : 0;
      loader.Filled(at, filled);
      at += filled;
      switch (done.error) {
        case 0:
        case EAGAIN:  // the mapping is changing, or has changed: see what is needed now
          if (filled == 0) sched_yield();
          break;
        case EEXIST:  // somebody touched it
          loader.Filled(at, 1);
          break;
        case ENOMEM:
          if (Clock::now() > deadline) {
            state_->Fail({ENOMEM, "ioctl(UFFDIO_COPY)"});
            return false;
          }
          sched_yield();
          break;
        case ENOENT:
          if (some >
              1) {  // the kernel fills no two mappings with one call, and a memory may be several
            at_once = some / 2;
            break;
          }
          // Unmapped or moved.
          [[fallthrough]];
        case kClosedErrno:
          state_->Fail({done.error == ENOENT ? ESTALE : ETIMEDOUT, "restore"});
          return false;
        default:
          state_->Fail({done.error, "ioctl(UFFDIO_COPY)"});
          return false;
      }
    }
  }
  return true;
}

// Before these pages: waits as the rate asks, and while threads wait for their own. False: it
// failed. Of what nobody wants any more nothing is waited for: at a low rate that would be for
// ever, with a thread and a descriptor (test 69).
bool LazyLoad::MakeRoom(const Part& part, uint64_t first, uint64_t last) noexcept {
  constexpr std::chrono::milliseconds kLook(5);
  if (options_.resolver == Resolver::kInThread) SigbusResolver::Reinstall();
  const auto aside = Clock::now() + kAside;
  while (!state_->IsCalm() && Clock::now() < aside && !IsHurried()) sched_yield();
  if (options_.bytes_per_second != 0) {
    const uint64_t bytes = (last - first) * part.loader->PageBytes();
    const std::chrono::duration<double> share(static_cast<double>(bytes) /
                                              static_cast<double>(options_.bytes_per_second));
    const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(share);
    std::unique_lock<std::mutex> lock(mutex_);
    while (Clock::now() < until && !IsHurried() && state_->Error() &&
           IsAnyWanted(part, first, last)) {
      changed_.wait_until(lock, std::min<Clock::time_point>(until, Clock::now() + kLook));
      if (options_.resolver == Resolver::kInThread) SigbusResolver::Reinstall();
    }
  }
  return state_->Error().Ok();
}

// Whether any of the pages is still to be loaded and where it was.
bool LazyLoad::IsAnyWanted(const Part& part, uint64_t first, uint64_t last) const noexcept {
  if (part.loader->NextNeeded(first) >= last) return false;
  const uint64_t size = part.loader->PageBytes();
  const uint64_t start = part.memory.pages.start;
  return session_->Table().Serves(part.registration.id,
                                  {start + first * size, start + last * size});
}

bool LazyLoad::IsHurried() noexcept { return HolderList::Get().IsHurried(*entry_); }

void LazyLoad::End(bool loaded) noexcept {
  UFFD_BARRIER("load-before-end", nullptr);
  // Where they are mapped now, if they are.
  session_->Table().ForEach([loaded](const Registration& registration) {
    if (loaded && !registration.memory) AdviseForks(registration.range, MADV_DOFORK);
  });
  if (loaded) {
    state_->EndLoaded();
    const std::lock_guard<std::mutex> lock(keeping_);
    ended_ = true;
    LetGoOfUntracked();
    LetGo();
  } else {
    NoteLost();
    LetGoOfAll();
  }
  over_ = true;
  HolderList::Get().Remove(entry_.get());
  const std::lock_guard<std::mutex> lock(mutex_);
  if (when_over_) when_over_();
  when_over_ = nullptr;
}

// What letting go poisons.
void LazyLoad::NoteLost() noexcept {
  if (!state_->HasBegun()) return;
  for (const Part& part : parts_) {
    const LazyMemory& loader = *part.loader;
    const uint64_t size = loader.PageBytes();
    RangeSet lost;
    for (uint64_t page = loader.NextNeeded(0); page < loader.PageCount();
         page = loader.NextNeeded(page + 1)) {
      const uint64_t start = part.memory.pages.start + page * size;
      lost.Add({start, start + size});
    }
    LostPages::Get().Add(lost, size);
  }
}

// Whoever tracks it finds out at the next look, and registers it anew.
void LazyLoad::LetGoOfAll() noexcept {
  const std::lock_guard<std::mutex> lock(keeping_);
  ended_ = true;
  kept_.Clear();
  LetGo();
}

// Of what nobody tracks. Under keeping_.
void LazyLoad::LetGo() noexcept {
  if (kept_.Empty()) session_->Release();
  for (Part& part : parts_) {
    const bool kept =
        kept_.Any([&part](const Range& range) { return range.Overlaps(part.memory.pages); });
    if (!part.loader || kept) continue;
    if (!kept_.Empty()) Unregister(part.memory.pages);
    part.resolver.reset();
    part.server.reset();
    // What is left of it is not to hold the files open.
    part.registration = {};
    part.loader.reset();
    part.memory.mapping.reset();
  }
}

// Of memories that are tracked in part only: others may want the rest. Under keeping_.
void LazyLoad::LetGoOfUntracked() noexcept {
  if (kept_.Empty()) return;
  for (const Part& part : parts_) {
    RangeSet rest;
    rest.Add(part.memory.pages);
    rest.RemoveAll(&kept_);
    for (const Range& pages : rest.Ranges()) Unregister(pages);
  }
}

// What of them is still registered here: the kernel (before 6.17) would do it to anybody's.
void LazyLoad::Unregister(Range pages) noexcept {
  session_->Table().ForEach([&](const Registration& registration) {
    const Range part = registration.range.Intersect(pages);
    if (!part.Empty()) static_cast<void>(session_->Unregister(part).Ok());
  });
}

Status LazyLoad::Arm(Range pages) noexcept {
  return session_->WriteProtect(pages, UFFDIO_WRITEPROTECT_MODE_WP);
}

void LazyLoad::Disarm(Range pages) noexcept {
  const std::lock_guard<std::mutex> lock(keeping_);
  kept_.Remove(pages);
  if (!ended_) return;
  // The rest of its memory may still be tracked.
  Unregister(pages);
  LetGo();
}

void LazyLoad::Complete() noexcept {
  if (IsOver()) return;
  for (const Part& part : parts_) HolderList::Get().Finish(part.memory.pages);
}

void LazyLoad::Forget() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  when_over_ = nullptr;
}

}  // namespace uffd
