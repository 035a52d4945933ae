#include "core/page_allocator.h"

#include <sys/mman.h>

#include <array>
#include <mutex>

#include "core/mapping.h"

namespace uffd {
namespace {

std::mutex g_mutex;
std::array<void*, 16> g_kept;  // single pages
size_t g_count = 0;

}  // namespace

void* TakePages(size_t bytes) noexcept {
  if (bytes <= PageSize()) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (g_count > 0) return g_kept[--g_count];
  }
  void* const pages =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? nullptr : pages;
}

void GivePages(void* pages, size_t bytes) noexcept {
  if (bytes <= PageSize()) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (g_count < g_kept.size()) {
      g_kept[g_count++] = pages;
      return;
    }
  }
  munmap(pages, bytes);
}

}  // namespace uffd
