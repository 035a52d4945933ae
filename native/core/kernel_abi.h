// The kernel's ABI, stated once. The installed headers may be older than the running kernel, so
// everything after Linux 5.7 is defined here when they lack it. Values never change once released.
// Source: the kernel's include/uapi/linux/userfaultfd.h and include/uapi/linux/fs.h.
#ifndef UFFD_CORE_KERNEL_ABI_H_
#define UFFD_CORE_KERNEL_ABI_H_

#include <linux/ioctl.h>
#include <linux/userfaultfd.h>

#ifdef __cplusplus
#include <cstdint>
#else  // the C programs of bench/native
#include <assert.h>
#include <stdint.h>
#endif

#ifndef UFFD_USER_MODE_ONLY  // Linux 5.11
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW  // Linux 6.1, ioctl on /dev/userfaultfd
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#ifndef UFFD_FEATURE_EXACT_ADDRESS  // Linux 5.18
#define UFFD_FEATURE_EXACT_ADDRESS (1 << 11)
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM  // Linux 5.19
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED  // Linux 6.4
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON  // Linux 6.6
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC  // Linux 6.7
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_FEATURE_MOVE  // Linux 6.8
#define UFFD_FEATURE_MOVE (1 << 16)
#endif

#ifndef UFFDIO_CONTINUE_MODE_WP  // Linux 6.4
#define UFFDIO_CONTINUE_MODE_WP ((uint64_t)1 << 1)
#endif
// NOLINTBEGIN(readability-identifier-naming,bugprone-reserved-identifier): the kernel's names
#ifndef UFFDIO_POISON  // Linux 6.6
#define _UFFDIO_POISON 0x08
#define UFFDIO_POISON_MODE_DONTWAKE ((uint64_t)1 << 0)
struct uffdio_poison {
  struct uffdio_range range;
  uint64_t mode;
  int64_t updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#endif
#ifndef UFFDIO_MOVE  // Linux 6.8
#define _UFFDIO_MOVE 0x05
#define UFFDIO_MOVE_MODE_DONTWAKE ((uint64_t)1 << 0)
#define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES ((uint64_t)1 << 1)
struct uffdio_move {
  uint64_t dst;
  uint64_t src;
  uint64_t len;
  uint64_t mode;
  int64_t move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)
#endif
// NOLINTEND(readability-identifier-naming,bugprone-reserved-identifier)

#ifndef PAGEMAP_SCAN  // Linux 6.7, ioctl on /proc/PID/pagemap
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PM_SCAN_WP_MATCHING (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)
#define PAGE_IS_WPALLOWED (1 << 0)
#define PAGE_IS_WRITTEN (1 << 1)
#define PAGE_IS_FILE (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)
#define PAGE_IS_HUGE (1 << 6)
// NOLINTBEGIN(readability-identifier-naming): the kernel's names
struct page_region {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};
struct pm_scan_arg {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
// NOLINTEND(readability-identifier-naming)
#endif

#ifndef MADV_POPULATE_READ  // Linux 5.14
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef PR_SET_MEMORY_MERGE  // Linux 6.4
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#ifndef MFD_NOEXEC_SEAL  // Linux 6.3
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static_assert(sizeof(struct uffd_msg) == 32, "uffd_msg");
static_assert(sizeof(struct uffdio_api) == 24, "uffdio_api");
static_assert(sizeof(struct uffdio_range) == 16, "uffdio_range");
static_assert(sizeof(struct uffdio_register) == 32, "uffdio_register");
static_assert(sizeof(struct uffdio_copy) == 40, "uffdio_copy");
static_assert(sizeof(struct uffdio_zeropage) == 32, "uffdio_zeropage");
static_assert(sizeof(struct uffdio_writeprotect) == 24, "uffdio_writeprotect");
static_assert(sizeof(struct uffdio_continue) == 32, "uffdio_continue");
static_assert(sizeof(struct uffdio_poison) == 32, "uffdio_poison");
static_assert(sizeof(struct uffdio_move) == 40, "uffdio_move");
static_assert(sizeof(struct page_region) == 24, "page_region");
static_assert(sizeof(struct pm_scan_arg) == 96, "pm_scan_arg");

#endif  // UFFD_CORE_KERNEL_ABI_H_
