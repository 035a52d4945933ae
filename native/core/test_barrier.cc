#include "core/test_barrier.h"

#ifdef UFFD_TEST_BARRIERS

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace uffd::testing {
namespace {

struct Barrier {
  bool closed = false;
  uint32_t waiting = 0;
  uint8_t* byte = nullptr;
  uint8_t value = 0;
};

std::mutex g_mutex;
std::condition_variable g_changed;
std::map<std::string, Barrier, std::less<>>& Barriers() {
  static auto* barriers = new std::map<std::string, Barrier, std::less<>>();
  return *barriers;
}
std::set<std::string>& DisabledNets() {
  static auto* nets = new std::set<std::string>();
  return *nets;
}
std::atomic<int> g_injected{0};
std::atomic<int> g_injected_scan{0};
std::atomic<uint64_t> g_withheld{0};
std::atomic<bool> g_sees_protection{true};
std::atomic<bool> g_helps_always{false};
std::atomic<bool> g_lingers_always{false};
std::atomic<uint32_t> g_scan_room{0};
// Read before the lock: a loop that passes open barriers must not slow down or allocate.
std::atomic<int> g_closed{0};

}  // namespace

void CloseBarrier(const char* name) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  Barrier& barrier = Barriers()[name];
  if (!barrier.closed) g_closed++;
  barrier.closed = true;
}

void OpenBarrier(const char* name) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  Barrier& barrier = Barriers()[name];
  if (barrier.closed) g_closed--;
  barrier.closed = false;
  g_changed.notify_all();
}

void WriteAtBarrier(const char* name, uint8_t* byte, uint8_t value) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  Barrier& barrier = Barriers()[name];
  g_closed++;
  barrier.byte = byte;
  barrier.value = value;
}

uint32_t WaitingAt(const char* name) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  return Barriers()[name].waiting;
}

bool AwaitAt(const char* name) {
  std::unique_lock<std::mutex> lock(g_mutex);
  const Barrier& barrier = Barriers()[name];
  return g_changed.wait_for(lock, std::chrono::seconds(5), [&] { return barrier.waiting > 0; });
}

void PassBarrier(const char* name, const std::atomic<bool>* give_up) {
  if (g_closed.load() == 0) return;
  std::unique_lock<std::mutex> lock(g_mutex);
  // No allocation: a thread that forks holds the allocator's locks until the loop has read its
  // event.
  const auto found = Barriers().find(std::string_view(name));
  if (found == Barriers().end()) return;
  if (uint8_t* const byte = std::exchange(found->second.byte, nullptr)) {
    *byte = found->second.value;
    g_closed--;
  }
  found->second.waiting++;
  g_changed.notify_all();
  while (found->second.closed && (give_up == nullptr || !give_up->load())) {
    g_changed.wait_for(lock, std::chrono::milliseconds(2));
  }
  found->second.waiting--;
}

void DisableNet(const char* name) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  DisabledNets().insert(name);
}

bool NetEnabled(const char* name) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  return DisabledNets().count(name) == 0;
}

void InjectResolveError(int error) { g_injected = error; }
int TakeInjectedResolveError() { return g_injected.exchange(0); }

void InjectScanError(int error) { g_injected_scan = error; }
int TakeInjectedScanError() { return g_injected_scan.exchange(0); }

void WithholdFeatures(uint64_t features) { g_withheld = features; }
uint64_t WithheldFeatures() { return g_withheld.load(); }
void HideProtection(bool hide) { g_sees_protection = !hide; }
bool SeesProtection() { return g_sees_protection.load(); }
void HelpAlways(bool always) { g_helps_always = always; }
bool HelpsAlways() { return g_helps_always.load(); }

void LingerAlways(bool always) { g_lingers_always = always; }
bool LingersAlways() { return g_lingers_always.load(); }

void SetScanRoom(uint32_t regions) { g_scan_room = regions; }
uint32_t ScanRoom() { return g_scan_room.load(); }

}  // namespace uffd::testing

#endif  // UFFD_TEST_BARRIERS
