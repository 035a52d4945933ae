#include "core/sigbus_resolver.h"

#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <mutex>

#include "core/test_barrier.h"

namespace uffd {
namespace {

// A range that is resolved here, or was until a moment ago.
struct Slot {
  std::atomic<bool> taken{false};
  std::atomic<uint64_t> start{0};
  std::atomic<uint64_t> end{0};
  std::atomic<uint64_t> page_size{0};
  std::atomic<InThreadServer*> server{nullptr};
  std::atomic<uint32_t> users{0};  // handlers that look at the rest
  // SIGBUS came for an address that does not fault any more: of a thread that faulted before that,
  // or it has another cause.
  std::atomic<uint32_t> late{0};
};

constexpr size_t kSlots = 512;
// So many are in turn before one is used again: a late fault finds its range.
constexpr size_t kInTurn = 16;
// More threads than that do not fault on one range while it is let go of.
constexpr uint32_t kMostLate = 10'000;

std::array<Slot, kSlots> g_slots;
// The slots below this number were used.
std::atomic<size_t> g_used{0};
size_t g_last = 0;  // the slot taken last; under g_install

// Handlers that were there before ours: the first, and the last one that replaced it.
std::mutex g_install;
struct sigaction g_first {};
struct sigaction g_replacements[2];
std::atomic<struct sigaction*> g_previous{&g_first};
std::atomic<pid_t> g_passing_on{0};
bool g_installed = false;

void OnSigbus(int signal, siginfo_t* info, void* context);

bool IsOurs(const struct sigaction& action) noexcept {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == &OnSigbus;
}

void Install() noexcept {
  struct sigaction ours {};
  ours.sa_sigaction = &OnSigbus;
  // A page may be claimed here: no other handler of this thread may run into it.
  sigfillset(&ours.sa_mask);
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigaction(SIGBUS, &ours, nullptr);
}

// What a listener of Node.js may take to put right what made a thread fault, or to end the process.
constexpr std::chrono::seconds kListenerPatience(1);
// A fault that comes again sooner than that is still the same.
constexpr std::chrono::milliseconds kSameFault(200);

// The last fault of a thread that was passed on to such a listener; by thread.
struct Repeated {
  std::atomic<pid_t> thread{0};
  std::atomic<uint64_t> address{0};
  std::atomic<int64_t> since{0};
  std::atomic<int64_t> last{0};
};
std::array<Repeated, 256> g_repeated;

// Such a handler only notes that the signal came, so the thread faults again, and for ever when
// nobody changes the memory (test 34, C4). It gets its time here.
bool IsHopeless(pid_t thread, uint64_t address) noexcept {
  Repeated& repeated = g_repeated[static_cast<size_t>(thread) % g_repeated.size()];
  const int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
  const int64_t pause = std::chrono::nanoseconds(kSameFault).count();
  if (repeated.thread.exchange(thread) != thread || repeated.address.exchange(address) != address ||
      now - repeated.last > pause) {
    repeated.since = now;
  }
  repeated.last = now;
  if (now - repeated.since > std::chrono::nanoseconds(kListenerPatience).count()) return true;
  poll(nullptr, 0, 1);
  return false;
}

void TakeDefault() noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  sigaction(SIGBUS, &standard, nullptr);
}

// As the kernel would have done without us.
void PassOn(int signal, siginfo_t* info, void* context) noexcept {
  const auto thread = static_cast<pid_t>(syscall(SYS_gettid));
  // A handler that replaced ours passes on to us what it does not know.
  const bool again = g_passing_on.load() == thread;
  const struct sigaction& previous = again ? g_first : *g_previous.load();
  if ((previous.sa_flags & SA_SIGINFO) == 0 && previous.sa_handler == SIG_IGN &&
      info->si_code <= 0) {
    return;
  }
  const bool is_default = (previous.sa_flags & SA_SIGINFO) == 0 &&
                          (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN);
  if (is_default) {
    TakeDefault();
    // A fault happens again when we return; what was sent is sent again.
    if (info->si_code <= 0) raise(SIGBUS);
    return;
  }
  g_passing_on = thread;
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (info->si_code > 0 && IsHopeless(thread, reinterpret_cast<uint64_t>(info->si_addr))) {
    TakeDefault();
  } else {
    previous.sa_handler(signal);
  }
  if (!again) g_passing_on = 0;
}

bool Holds(const Slot& slot, uint64_t address) noexcept {
  return address >= slot.start.load() && address < slot.end.load();
}

enum class Served { kNotHere, kYes, kNo };

Served TryServe(Slot* slot, uint64_t address) noexcept {
  if (!Holds(*slot, address)) return Served::kNotHere;
  slot->users++;
  // Loaded once: it may be taken away at any moment, and lives until `users` is 0 again.
  InThreadServer* const server = Holds(*slot, address) ? slot->server.load() : nullptr;
  const Range page = Range{address, address + 1}.RoundOutward(slot->page_size.load());
  const Served served = server == nullptr     ? Served::kNotHere
                        : server->Serve(page) ? Served::kYes
                                              : Served::kNo;
  slot->users--;
  return served;
}

bool IsLate(Slot* slot, uint64_t address) noexcept {
  return Holds(*slot, address) && slot->late.fetch_add(1) < kMostLate;
}

void OnSigbus(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const auto address = reinterpret_cast<uint64_t>(info->si_addr);
  Served served = Served::kNotHere;
  UFFD_BARRIER("sigbus-before-lookup", nullptr);
  // Not what another process sent, nor what a machine check found.
  if (info->si_code == BUS_ADRERR) {
    const size_t used = g_used.load();
    for (size_t i = 0; i < used && served == Served::kNotHere; i++) {
      served = TryServe(&g_slots[i], address);
    }
    for (size_t i = 0; i < used && served == Served::kNotHere; i++) {
      if (IsLate(&g_slots[i], address)) served = Served::kYes;
    }
  }
  if (served != Served::kYes) PassOn(signal, info, context);
  errno = error;
}

// Under g_install.
Slot* FreeSlot() noexcept {
  const size_t used = std::max(g_used.load(), kInTurn);
  for (size_t i = 1; i <= used; i++) {
    const size_t at = (g_last + i) % used;
    if (g_slots[at].taken.load()) continue;
    g_last = at;
    g_used = used;
    return &g_slots[at];
  }
  if (used == kSlots) return nullptr;
  g_last = used;
  g_used = used + 1;
  return &g_slots[used];
}

}  // namespace

void SigbusResolver::KeepInstalled() noexcept {
  {
    const std::lock_guard<std::mutex> lock(g_install);
    if (!g_installed) return;
  }
  Reinstall();
}

bool SigbusResolver::Reinstall() noexcept {
  const std::lock_guard<std::mutex> lock(g_install);
  struct sigaction now {};
  sigaction(SIGBUS, nullptr, &now);
  if (IsOurs(now)) return false;
  if (!g_installed) {
    g_first = now;
    g_installed = true;
  } else {
    // The slot that is not in use: a handler may be reading the other.
    struct sigaction* const next =
        g_previous.load() == &g_replacements[0] ? &g_replacements[1] : &g_replacements[0];
    *next = now;
    g_previous = next;
  }
  Install();
  return true;
}

Result<std::unique_ptr<SigbusResolver>> SigbusResolver::Start(Range pages, uint64_t page_size,
                                                              InThreadServer* server) noexcept {
  Reinstall();
  const std::lock_guard<std::mutex> lock(g_install);
  Slot* const slot = FreeSlot();
  if (slot == nullptr) return Failure{EMFILE, "sigaction(SIGBUS)"};
  slot->taken = true;
  slot->start = 0;
  slot->end = 0;
  while (slot->users != 0) sched_yield();
  slot->late = 0;
  slot->page_size = page_size;
  slot->server = server;
  slot->start = pages.start;
  slot->end = pages.end;
  return std::unique_ptr<SigbusResolver>(new SigbusResolver(slot - g_slots.data()));
}

SigbusResolver::~SigbusResolver() {
  Slot& slot = g_slots[slot_];
  // The addresses stay: a thread may have faulted and not be here yet.
  slot.server = nullptr;
  while (slot.users != 0) sched_yield();
  slot.taken = false;
}

}  // namespace uffd
