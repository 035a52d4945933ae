// in_thread MODE PAGES: how long a thread takes that copies a page in a signal handler and goes on.
// MODE `sigbus`: pages are armed, and the userfaultfd's feature SIGBUS makes faults signals;
//      `mprotect`: the page is protected, and the fault is SIGSEGV.
// A round: `touch` writes every page once. Answers: ns of each.

#include <stdbool.h>

#include "tracking.h"

static int uffd = -1;
static uint8_t* memory;
static uint8_t* copies;

static void CopyAndMakeWritable(int signal, siginfo_t* info, void* context) {
  (void)signal;
  (void)context;
  uint8_t* page = (uint8_t*)((uint64_t)info->si_addr & ~(PAGE - 1));
  memcpy(copies + (page - memory), page, PAGE);
  if (uffd >= 0) {
    WriteProtect(uffd, page, PAGE, 0);
  } else {
    Require(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
  }
}

int main(int argc, char** argv) {
  const uint64_t pages = NumberArgument(argc, argv, 2);
  const bool sigbus = strcmp(argv[1], "sigbus") == 0;
  memory = MapMemory(pages * PAGE, 0);
  copies = MapMemory(pages * PAGE, 0);
  memset(memory, 1, pages * PAGE);
  uint64_t* times = calloc(pages, sizeof(*times));
  Require(times != NULL, "calloc");
  if (sigbus) {
    uffd = OpenUserfaultfd(
        UFFD_FEATURE_SIGBUS | UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED,
        UFFD_USER_MODE_ONLY);
    Register(uffd, memory, pages * PAGE, UFFDIO_REGISTER_MODE_WP);
  }
  struct sigaction action = {.sa_sigaction = CopyAndMakeWritable, .sa_flags = SA_SIGINFO};
  Require(sigaction(sigbus ? SIGBUS : SIGSEGV, &action, NULL) == 0, "sigaction");
  Ready();
  char* words[1];
  while (NextRound(words, 1) == 1) {
    // Fresh copies each time, as for a snapshot.
    Require(madvise(copies, pages * PAGE, MADV_DONTNEED) == 0, "madvise");
    if (sigbus) {
      WriteProtect(uffd, memory, pages * PAGE, UFFDIO_WRITEPROTECT_MODE_WP);
    } else {
      Require(mprotect(memory, pages * PAGE, PROT_READ) == 0, "mprotect");
    }
    for (uint64_t i = 0; i < pages; i++) {
      const uint64_t start = NowNs();
      *(volatile uint8_t*)(memory + i * PAGE) = 2;
      times[i] = NowNs() - start;
    }
    Answer(times, pages);
  }
  return 0;
}
