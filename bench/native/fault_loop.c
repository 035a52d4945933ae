// fault_loop MODE LOOP PAGES: how long a thread waits for a fault that another thread ends.
// MODE `write-protect`, `copy-on-write` (the page is copied first) or `missing`; the other thread
// `sleeps` in poll(2) between faults or `spins` in read(2).
// A round: `touch` touches every page once. Answers: ns of each.

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>

#include "tracking.h"

static int uffd;
static bool missing;
static bool spins;
static uint8_t* memory;
static uint8_t* copies;  // of the mode copy-on-write
static uint8_t* source;  // of the mode missing

static void Resolve(uint64_t address) {
  const uint64_t page = address & ~(PAGE - 1);
  if (missing) {
    struct uffdio_copy copy = {
        .dst = page, .src = page - (uint64_t)memory + (uint64_t)source, .len = PAGE};
    Require(ioctl(uffd, UFFDIO_COPY, &copy) == 0, "UFFDIO_COPY");
  } else {
    if (copies != NULL) memcpy(copies + (page - (uint64_t)memory), (void*)page, PAGE);
    WriteProtect(uffd, (void*)page, PAGE, 0);
  }
}

static void* Loop(void* unused) {
  (void)unused;
  for (;;) {
    struct pollfd waiting = {.fd = uffd, .events = POLLIN};
    if (!spins) Require(poll(&waiting, 1, -1) == 1, "poll");
    struct uffd_msg message;
    if (read(uffd, &message, sizeof(message)) != sizeof(message)) {
      Require(errno == EAGAIN, "read");
      continue;
    }
    Resolve(message.arg.pagefault.address);
  }
  return NULL;
}

int main(int argc, char** argv) {
  const uint64_t pages = NumberArgument(argc, argv, 3);
  missing = strcmp(argv[1], "missing") == 0;
  spins = strcmp(argv[2], "spins") == 0;
  uffd = OpenUserfaultfd(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED, 0);
  memory = MapMemory(pages * PAGE, 0);
  if (strcmp(argv[1], "copy-on-write") == 0) copies = MapMemory(pages * PAGE, 0);
  if (missing) source = memset(MapMemory(pages * PAGE, 0), 1, pages * PAGE);
  uint64_t* times = calloc(pages, sizeof(*times));
  Require(times != NULL, "calloc");
  if (!missing) memset(memory, 1, pages * PAGE);
  Register(uffd, memory, pages * PAGE,
           missing ? UFFDIO_REGISTER_MODE_MISSING : UFFDIO_REGISTER_MODE_WP);
  pthread_t thread;
  Require(pthread_create(&thread, NULL, Loop, NULL) == 0, "pthread_create");
  Ready();
  char* words[1];
  while (NextRound(words, 1) == 1) {
    // Fresh copies each time, as for a snapshot.
    if (copies != NULL) Require(madvise(copies, pages * PAGE, MADV_DONTNEED) == 0, "madvise");
    if (missing) {
      Require(madvise(memory, pages * PAGE, MADV_DONTNEED) == 0, "madvise");
    } else {
      WriteProtect(uffd, memory, pages * PAGE, UFFDIO_WRITEPROTECT_MODE_WP);
    }
    for (uint64_t i = 0; i < pages; i++) {
      volatile uint8_t* page = memory + i * PAGE;
      const uint64_t start = NowNs();
      if (missing) {
        (void)*page;
      } else {
        *page = 1;
      }
      times[i] = NowNs() - start;
    }
    Answer(times, pages);
  }
  return 0;
}
