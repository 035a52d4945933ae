// The bare system calls: memory, a userfaultfd, arming, and the scan that collects.
#ifndef UFFD_BENCH_TRACKING_H_
#define UFFD_BENCH_TRACKING_H_

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/kernel_abi.h"
#include "round.h"

// As many as the package gives the kernel room for.
#define REGIONS 32768

// Aligned for huge pages, which it gets or not by its own advice, whatever the system does.
static inline uint8_t* MapMemory(uint64_t bytes, int huge) {
  const uint64_t alignment = UINT64_C(2) << 20;
  uint8_t* raw = mmap(NULL, bytes + alignment, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  Require(raw != MAP_FAILED, "mmap");
  uint8_t* memory = (uint8_t*)(((uint64_t)raw + alignment - 1) / alignment * alignment);
  if (memory > raw) munmap(raw, (size_t)(memory - raw));
  munmap(memory + bytes, (size_t)(raw + alignment - memory));
  Require(madvise(memory, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0, "madvise");
  return memory;
}

static inline int OpenUserfaultfd(uint64_t features, int flags) {
  const int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
  Require(uffd >= 0, "userfaultfd");
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  Require(ioctl(uffd, UFFDIO_API, &api) == 0, "UFFDIO_API");
  return uffd;
}

static inline void Register(int uffd, const void* memory, uint64_t bytes, uint64_t mode) {
  struct uffdio_register request = {.range = {(uint64_t)memory, bytes}, .mode = mode};
  Require(ioctl(uffd, UFFDIO_REGISTER, &request) == 0, "UFFDIO_REGISTER");
}

static inline void Unregister(int uffd, const void* memory, uint64_t bytes) {
  struct uffdio_range range = {(uint64_t)memory, bytes};
  Require(ioctl(uffd, UFFDIO_UNREGISTER, &range) == 0, "UFFDIO_UNREGISTER");
}

static inline void WriteProtect(int uffd, const void* memory, uint64_t bytes, uint64_t mode) {
  struct uffdio_writeprotect request = {.range = {(uint64_t)memory, bytes}, .mode = mode};
  Require(ioctl(uffd, UFFDIO_WRITEPROTECT, &request) == 0, "UFFDIO_WRITEPROTECT");
}

// Where the kernel marks the first write of each page itself.
static inline int OpenAsync(void) {
  return OpenUserfaultfd(
      UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC,
      UFFD_USER_MODE_ONLY);
}

static inline int OpenPagemap(void) {
  const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  Require(fd >= 0, "open /proc/self/pagemap");
  return fd;
}

static inline struct page_region* MapRegions(void) {
  struct page_region* regions = mmap(NULL, REGIONS * sizeof(*regions), PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  Require(regions != MAP_FAILED, "mmap");
  return regions;
}

// Scans [memory, memory + bytes) with the rest of `args` as given, and returns the pages found.
static inline uint64_t ScanPages(int pagemap, struct page_region* regions, struct pm_scan_arg args,
                                 const void* memory, uint64_t bytes,
                                 void (*visit)(uint64_t start, uint64_t end)) {
  args.size = sizeof(args);
  args.start = (uint64_t)memory;
  args.end = (uint64_t)memory + bytes;
  args.vec = (uint64_t)regions;
  args.vec_len = REGIONS;
  uint64_t pages = 0;
  while (args.start < args.end) {
    const long count = ioctl(pagemap, PAGEMAP_SCAN, &args);
    Require(count >= 0, "PAGEMAP_SCAN");
    for (long i = 0; i < count; i++) {
      pages += (regions[i].end - regions[i].start) / PAGE;
      if (visit != NULL) visit(regions[i].start, regions[i].end);
    }
    if (count < REGIONS) break;
    args.start = args.walk_end > regions[count - 1].end ? args.walk_end : regions[count - 1].end;
  }
  return pages;
}

static const struct pm_scan_arg kPeek = {.flags = PM_SCAN_CHECK_WPASYNC,
                                         .category_mask = PAGE_IS_WRITTEN,
                                         .return_mask = PAGE_IS_WRITTEN};
// The same, and what was found is armed again in the same step.
static const struct pm_scan_arg kCollect = {.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
                                            .category_mask = PAGE_IS_WRITTEN,
                                            .return_mask = PAGE_IS_WRITTEN};
// Armed pages, also those that do not exist yet.
static const struct pm_scan_arg kArmed = {.category_inverted = PAGE_IS_WRITTEN,
                                          .category_mask = PAGE_IS_WRITTEN,
                                          .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                                          .return_mask = PAGE_IS_PRESENT};

// Writes `count` of the pages in runs of `run`, evenly spread: as bench/harness/pattern.ts does.
static inline void WritePattern(uint8_t* memory, uint64_t bytes, uint64_t count, uint64_t run,
                                uint8_t value) {
  const uint64_t runs = count / run;
  for (uint64_t i = 0; i < runs; i++) {
    uint8_t* page = memory + bytes / PAGE * i / runs * PAGE;
    for (uint64_t k = 0; k < run; k++) page[k * PAGE] = value;
  }
}

#endif  // UFFD_BENCH_TRACKING_H_
