#include "core/registry.h"

#include <algorithm>
#include <chrono>

#include "core/native_thread.h"
#include "core/process_end.h"
#include "core/session.h"
#include "core/sigbus_resolver.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// Four silent ticks and a session is released: within the two seconds a process may take to end.
constexpr std::chrono::milliseconds kWatchdogTick(250);

}  // namespace

Registry& Registry::Get() noexcept {
  static auto* registry = new Registry();
  return *registry;
}

Status Registry::Add(const std::shared_ptr<Session>& session) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (process_ends_) return Failure{kEndingErrno, "userfaultfd"};
  if (!watching_) {
    const Result<pthread_t> thread =
        StartNativeThread("uffd-watchdog", &Registry::WatchdogMain, this);
    if (!thread) return thread.Error();
    pthread_detach(thread.Value());
    watching_ = true;
  }
  sessions_.push_back({session.get(), session});
  changed_.notify_all();
  return Done{};
}

void Registry::Remove(Session* session) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(sessions_, [session](const Entry& entry) { return entry.key == session; });
}

std::vector<std::shared_ptr<Session>> Registry::Live() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::shared_ptr<Session>> live;
  for (const Entry& entry : sessions_) {
    if (std::shared_ptr<Session> session = entry.session.lock()) live.push_back(std::move(session));
  }
  return live;
}

bool Registry::MayFault(Range range) noexcept {
  const std::vector<std::shared_ptr<Session>> live = Live();
  return std::any_of(live.begin(), live.end(), [range](const std::shared_ptr<Session>& session) {
    return session->MayFault(range);
  });
}

Status Registry::ZeroRegistered(RangeSet* pages) noexcept {
  if (pages->Empty()) return Done{};
  for (const std::shared_ptr<Session>& session : Live()) {
    Status zeroed = session->ZeroRegistered(pages);
    if (!zeroed) return zeroed;
  }
  return Done{};
}

bool Registry::HolesAreZeros(Range range) noexcept {
  const std::vector<std::shared_ptr<Session>> live = Live();
  return std::none_of(live.begin(), live.end(), [range](const std::shared_ptr<Session>& session) {
    return session->Table().MayFill(range);
  });
}

bool Registry::IsSource(Range range) noexcept {
  const std::vector<std::shared_ptr<Session>> live = Live();
  return std::any_of(live.begin(), live.end(), [range](const std::shared_ptr<Session>& session) {
    return session->Table().IsSource(range);
  });
}

bool Registry::HasSource(Range range) noexcept {
  const std::vector<std::shared_ptr<Session>> live = Live();
  return std::any_of(live.begin(), live.end(), [range](const std::shared_ptr<Session>& session) {
    return session->Table().HasSource(range);
  });
}

void Registry::ReleaseAll() noexcept {
  using Haste = EndingPatience::Haste;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    process_ends_ = true;
  }
  std::vector<std::shared_ptr<Session>> live = Live();
  std::erase_if(live, [](const auto& session) { return session->ServesToTheEnd(); });
  // All of them have that time together.
  const auto since = EndingPatience::Clock::now();
  for (const std::shared_ptr<Session>& session : live) {
    session->EndOpenFaults(Haste::kEnding, since);
  }
  // Sleepers of all sessions first: a call into one may sleep in a fault of another.
  for (const std::shared_ptr<Session>& session : live) session->FreeSleepers();
  for (const std::shared_ptr<Session>& session : live) session->Release(Haste::kEnding);
}

bool Registry::SomebodyWaits() noexcept {
  const std::vector<std::shared_ptr<Session>> live = Live();
  return std::any_of(live.begin(), live.end(),
                     [](const std::shared_ptr<Session>& each) { return each->HasOpenFaults(); });
}

void* Registry::WatchdogMain(void* self) noexcept {
  static_cast<Registry*>(self)->Watch();
  return nullptr;
}

void Registry::Watch() noexcept {
  ProcessEnd process_end(&Registry::WatchdogMain);
  for (;;) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return !sessions_.empty(); });
      // Nothing to watch is nothing to wake up for; with a session, one look per tick.
      changed_.wait_for(lock, kWatchdogTick, [this] { return sessions_.empty(); });
    }
    if (!UFFD_NET_ENABLED("watchdog")) continue;
    for (const std::shared_ptr<Session>& session : Live()) {
      if (session->NeedsRescue()) session->Release();
    }
    SigbusResolver::KeepInstalled();
    // Whoever waits is what an end may wait for. Without one a mistake costs nothing.
    if (process_end.HasBegun() && SomebodyWaits()) ReleaseAll();
  }
}

}  // namespace uffd
