#ifndef UFFD_CORE_PAGE_ALLOCATOR_H_
#define UFFD_CORE_PAGE_ALLOCATOR_H_

#include <cstddef>
#include <new>

namespace uffd {

// Whole pages from the kernel, some of them kept for the next time; null when there are none.
void* TakePages(size_t bytes) noexcept;
void GivePages(void* pages, size_t bytes) noexcept;

// For containers that the fault loop changes, or waits for while others do: none of malloc's
// memory. A thread that forks holds the locks of malloc until the loop has read its event, so a
// loop that waited for malloc would wait for ever (test 35, D7).
template <typename T>
class PageAllocator {
 public:
  using value_type = T;

  PageAllocator() = default;
  template <typename U>
  // NOLINTNEXTLINE(google-explicit-constructor): allocators convert
  PageAllocator(const PageAllocator<U>& /*other*/) noexcept {}

  // NOLINTBEGIN(readability-identifier-naming): the standard's names
  T* allocate(size_t count) {
    void* const pages = TakePages(count * sizeof(T));
    if (pages == nullptr) throw std::bad_alloc();
    return static_cast<T*>(pages);
  }
  void deallocate(T* pages, size_t count) noexcept { GivePages(pages, count * sizeof(T)); }
  // NOLINTEND(readability-identifier-naming)

  bool operator==(const PageAllocator& /*other*/) const noexcept { return true; }
};

}  // namespace uffd

#endif  // UFFD_CORE_PAGE_ALLOCATOR_H_
