// Test build only: how much work the addon does. Its own calls are counted, and not those that
// Node.js or libc make: the linker gives the addon these functions instead (--wrap in binding.gyp).
#ifndef UFFD_CORE_TEST_COUNTERS_H_
#define UFFD_CORE_TEST_COUNTERS_H_

#ifdef UFFD_TEST_BARRIERS

#include <array>
#include <cstdint>

namespace uffd::testing {

struct Count {
  const char* name;
  uint64_t calls;
};

// Of all threads, since the addon was loaded: each system call by its name, and `allocations`
// (operator new).
std::array<Count, 9> Counts() noexcept;

}  // namespace uffd::testing

#endif  // UFFD_TEST_BARRIERS

#endif  // UFFD_CORE_TEST_COUNTERS_H_
