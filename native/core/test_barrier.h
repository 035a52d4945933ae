// Named points where a test can hold a native thread. They exist only in the test build
// (UFFD_TEST_BARRIERS); the shipped addon has none.
#ifndef UFFD_CORE_TEST_BARRIER_H_
#define UFFD_CORE_TEST_BARRIER_H_

#ifdef UFFD_TEST_BARRIERS

#include <atomic>
#include <cstdint>

namespace uffd::testing {

void CloseBarrier(const char* name);
void OpenBarrier(const char* name);
// How many threads wait there now.
uint32_t WaitingAt(const char* name);
// Sleeps until one does, for some seconds at most: whether one does.
bool AwaitAt(const char* name);
// Returns when the barrier is open or `give_up` is set.
void PassBarrier(const char* name, const std::atomic<bool>* give_up);
// The next thread that comes there writes this byte itself.
void WriteAtBarrier(const char* name, uint8_t* byte, uint8_t value);
// Which of the release routine's callers a test has switched off: "exit", "cleanup", "watchdog".
void DisableNet(const char* name);
bool NetEnabled(const char* name);
// Makes the loop see this errno from its next resolving ioctl; 0 for none.
void InjectResolveError(int error);
int TakeInjectedResolveError();
// Makes the next PAGEMAP_SCAN fail with this errno after the kernel has done it: what happens when
// its result cannot be stored.
void InjectScanError(int error);
int TakeInjectedScanError();
// An older kernel: it offers none of these features (UFFD_FEATURE_*), and /proc/self/pagemap does
// not tell what is write-protected.
void WithholdFeatures(uint64_t features);
uint64_t WithheldFeatures();
void HideProtection(bool hide);
bool SeesProtection();
// Helpers are started also where no processor is idle, and however soon the work would be done.
void HelpAlways(bool always);
bool HelpsAlways();
// Event loops stay awake for the next fault after every answer, however late it was lately.
void LingerAlways(bool always);
bool LingersAlways();
// How many regions one PAGEMAP_SCAN has room for, of buffers that are made from here on; 0: as many
// as in earnest.
void SetScanRoom(uint32_t regions);
uint32_t ScanRoom();

}  // namespace uffd::testing

#define UFFD_BARRIER(name, give_up) ::uffd::testing::PassBarrier(name, give_up)
#define UFFD_NET_ENABLED(name) ::uffd::testing::NetEnabled(name)
#define UFFD_INJECTED_ERROR() ::uffd::testing::TakeInjectedResolveError()
#define UFFD_INJECTED_SCAN_ERROR() ::uffd::testing::TakeInjectedScanError()
#define UFFD_WITHHELD_FEATURES() ::uffd::testing::WithheldFeatures()
#define UFFD_SEES_PROTECTION() ::uffd::testing::SeesProtection()
#define UFFD_HELPS_ALWAYS() ::uffd::testing::HelpsAlways()
#define UFFD_LINGERS_ALWAYS() ::uffd::testing::LingersAlways()
#define UFFD_SCAN_ROOM() ::uffd::testing::ScanRoom()

#else

#define UFFD_BARRIER(name, give_up) static_cast<void>(0)
#define UFFD_NET_ENABLED(name) true
#define UFFD_INJECTED_ERROR() 0
#define UFFD_INJECTED_SCAN_ERROR() 0
#define UFFD_WITHHELD_FEATURES() 0
#define UFFD_SEES_PROTECTION() true
#define UFFD_HELPS_ALWAYS() false
#define UFFD_LINGERS_ALWAYS() false
#define UFFD_SCAN_ROOM() 0

#endif  // UFFD_TEST_BARRIERS

#endif  // UFFD_CORE_TEST_BARRIER_H_
