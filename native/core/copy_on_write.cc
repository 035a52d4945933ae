#include "core/copy_on_write.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "core/helper.h"
#include "core/kernel_abi.h"
#include "core/native_thread.h"
#include "core/no_reader.h"
#include "core/pagemap.h"
#include "core/parallel_parts.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

class WriteServer final : public InThreadServer {
 public:
  WriteServer(WriteObserver* observer, Session* session) noexcept
      : observer_(observer), session_(session) {}

  bool Serve(Range pages) noexcept override {
    constexpr int kSpins = 1000;
    const auto start = std::chrono::steady_clock::now();
    for (int spins = 0; observer_->BeforeWrite(&pages) == WriteObserver::Verdict::kWait; spins++) {
      if (spins > kSpins) sched_yield();
    }
    for (;;) {
      const Status done = session_->UnprotectInSignal(pages);
      // EAGAIN: the mapping is changing, until the event of that is read. Whatever else it is, the
      // write is tried again: it goes through, or comes back here.
      if (done || done.Error().error != EAGAIN) break;
      sched_yield();
    }
    observer_->AfterWrite(std::chrono::steady_clock::now() - start);
    return true;
  }

 private:
  WriteObserver* const observer_;
  Session* const session_;
};

// REMOVE, REMAP and UNMAP tell of pages that go without being written.
constexpr uint64_t kRequired = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED |
                               UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_REMAP |
                               UFFD_FEATURE_EVENT_UNMAP;
constexpr uint64_t kOptional = UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_THREAD_ID;

// Of pages of 4 KiB that exist: half a millisecond to arm.
constexpr uint64_t kLarge = uint64_t{32} << 20;

OpenRequest RequestFor(CopyOnWrite::Resolver resolver) noexcept {
  if (resolver == CopyOnWrite::Resolver::kInThread) {
    return {kRequired | UFFD_FEATURE_SIGBUS, kOptional, UserMode::kOnly};
  }
  return {kRequired, kOptional, UserMode::kNever};
}

}  // namespace

CopyOnWrite::Started CopyOnWrite::Start(std::vector<Part> parts, const Options& options) noexcept {
  const bool is_large = std::any_of(parts.begin(), parts.end(), [](const Part& part) {
    return part.memory.pages.Length() >= kLarge;
  });
  const bool was_idle = is_large && Helper::HasProcessor();
  Session::Opened opened =
      Session::Open(RequestFor(options.resolver), NoReader(), Session::Loop::kStaysAwake);
  Started started;
  started.attempts = std::move(opened.attempts);
  started.missing_features = opened.missing_features;
  started.failure = opened.failure;
  if (opened.session == nullptr) return started;
  std::unique_ptr<CopyOnWrite> capturing(new CopyOnWrite(
      std::move(opened.session), std::make_shared<Cut>(options.max_bytes), options));
  const Status armed = capturing->Arm(std::move(parts), was_idle);
  if (!armed) {
    started.failure = armed.Error();
    return started;
  }
  started.capturing = std::move(capturing);
  return started;
}

CopyOnWrite::CopyOnWrite(std::shared_ptr<Session> session, std::shared_ptr<Cut> cut,
                         const Options& options) noexcept
    : options_(options), session_(std::move(session)), cut_(std::move(cut)) {}

CopyOnWrite::~CopyOnWrite() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  cut_->Fail(kClosedErrno);
  if (sweeping_) pthread_join(thread_, nullptr);
  Release();
  Leave();
}

Status CopyOnWrite::Arm(std::vector<Part> parts, bool was_idle) noexcept {
  for (Part& part : parts) {
    HolderList::Get().Finish(part.memory.pages);
    const Range& pages = part.memory.pages;
    // What HeldAll() needs is asked for before anything is armed: without it every capture would
    // fail.
    const Status scans =
        Pagemap::Check({pages.start, std::min(pages.start + PageSize(), pages.end)});
    if (!scans) return scans;
    auto capture = Capture::Create(part.memory, std::move(part.copy), cut_);
    if (!capture) return capture.Error();
    captures_.push_back(std::move(capture.Value()));
  }
  entry_ = HolderList::Get().AddCaptures(captures_);
  for (size_t i = 0; i < parts.size(); i++) {
    const Status registered = Register(parts[i].memory, captures_[i]);
    if (!registered) return registered;
  }
  for (const auto& capture : captures_) {
    if (capture->Pages().Empty()) continue;
    const auto arm = [this](Range part) {
      return session_->WriteProtect(part, UFFDIO_WRITEPROTECT_MODE_WP);
    };
    const Range& pages = capture->Pages();
    const Status armed = pages.Length() >= kLarge
                             ? CallInParallel(pages, capture->PageBytes(), was_idle, arm)
                             : arm(pages);
    if (!armed) return armed;
    UFFD_BARRIER("capture-between-arming", nullptr);
  }
  cut_->Complete();
  session_->Retry();
  return Done{};
}

Status CopyOnWrite::Register(const Capture::Memory& memory,
                             const std::shared_ptr<Capture>& capture) noexcept {
  if (memory.pages.Empty()) return Done{};
  auto policy = std::make_shared<Policy>();
  policy->mode = UFFDIO_REGISTER_MODE_WP;
  policy->page_size = memory.page_size;
  policy->observer = capture;
  if (options_.resolver == Resolver::kInThread) {
    servers_.push_back(std::make_unique<WriteServer>(capture.get(), session_.get()));
    auto resolver = SigbusResolver::Start(memory.pages, memory.page_size, servers_.back().get());
    if (!resolver) return resolver.Error();
    resolvers_.push_back(std::move(resolver.Value()));
  }
  const auto registered = session_->Register(memory.pages, std::move(policy), memory.mapping);
  if (!registered) return registered.Error();
  return Done{};
}

Status CopyOnWrite::Sweep(std::function<void()> finished) noexcept {
  finished_ = std::move(finished);
  const Result<pthread_t> thread = StartNativeThread("uffd-sweep", &CopyOnWrite::ThreadMain, this);
  if (!thread) return thread.Error();
  thread_ = thread.Value();
  sweeping_ = true;
  return Done{};
}

void* CopyOnWrite::ThreadMain(void* self) noexcept {
  auto* capturing = static_cast<CopyOnWrite*>(self);
  capturing->SweepAll();
  capturing->finished_();
  return nullptr;
}

void CopyOnWrite::SweepAll() noexcept {
  UFFD_BARRIER("sweep-before-first", nullptr);
  for (const auto& capture : captures_) {
    if (!SweepOne(capture.get())) return;
  }
  for (const auto& capture : captures_) capture->AwaitAll();
  UFFD_BARRIER("sweep-before-check", nullptr);
  // What was given back before it was captured is known then, also where its mark stayed (test 64,
  // B10).
  AwaitEvents();
  for (const auto& capture : captures_) {
    if (!capture->Pages().Empty() && !capture->HeldAll()) cut_->Fail(Cut::kLost);
  }
  // Asked last: what was released before is not armed any more.
  if (session_->Released()) cut_->Fail(Cut::kReleased);
}

bool CopyOnWrite::SweepOne(Capture* capture) noexcept {
  for (size_t page = 0; page < capture->PageCount();) {
    const Capture::Swept swept = capture->Sweep(page);
    page += swept.pages;
    if (options_.resolver == Resolver::kInThread) SigbusResolver::Reinstall();
    if (cut_->Error() != 0 || !Pace(swept.copied * capture->PageBytes())) return false;
  }
  return true;
}

// Waits as the rate asks for. False: give up.
bool CopyOnWrite::Pace(uint64_t swept_bytes) noexcept {
  constexpr std::chrono::milliseconds kLook(5);
  std::unique_lock<std::mutex> lock(mutex_);
  if (options_.bytes_per_second == 0) return !stopping_;
  const std::chrono::duration<double> share(static_cast<double>(swept_bytes) /
                                            static_cast<double>(options_.bytes_per_second));
  const auto until = std::chrono::steady_clock::now() +
                     std::chrono::duration_cast<std::chrono::nanoseconds>(share);
  for (;;) {
    const auto now = std::chrono::steady_clock::now();
    // A writer may have used up what may be kept, or pages were lost: nothing to wait for then.
    if (stopping_ || cut_->Error() != 0) return false;
    if (now >= until || HolderList::Get().IsHurried(*entry_)) return true;
    stopped_.wait_until(lock, std::min<std::chrono::steady_clock::time_point>(until, now + kLook));
    if (options_.resolver == Resolver::kInThread) SigbusResolver::Reinstall();
  }
}

void CopyOnWrite::Release() noexcept {
  if (entry_ != nullptr) HolderList::Get().BeginEnding(entry_.get());
  releasing_ = true;
  session_->Release();
  resolvers_.clear();
}

void CopyOnWrite::Leave() noexcept {
  if (entry_ != nullptr) HolderList::Get().Remove(entry_.get());
}

// Released by somebody else, the watchdog or the end of the process: writes go unseen (test 64).
int CopyOnWrite::Error() const noexcept {
  const int error = cut_->Error();
  if (error != 0 || releasing_ || !session_->Released()) return error;
  return Cut::kReleased;
}

}  // namespace uffd
