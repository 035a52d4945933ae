#include "thread_pool.h"

#include <algorithm>
#include <cstdlib>

#include "core/native_thread.h"

namespace uffd {

bool PoolCanStart() noexcept {
  static const bool can_start = [] {
    constexpr size_t kUsual = 4;
    constexpr size_t kMost = 1024;
    const char* const size = std::getenv("UV_THREADPOOL_SIZE");
    const size_t threads = size == nullptr ? kUsual : std::strtoul(size, nullptr, 10);
    // Twice as many: the kernel still counts threads for a moment after they have ended.
    return CanStartThreads(2 * std::clamp<size_t>(threads, 1, kMost));
  }();
  return can_start;
}

}  // namespace uffd
