// copy BYTES HUGE POPULATED: arming memory, and copying it into memory that is fresh.
// A round: `arm`, `arm-and-copy`, `open-and-arm` (with a userfaultfd that is made for it), or
// `begin-and-arm` (with two threads and room for a copy besides), of memory made anew. Answers: ns.

#include <pthread.h>
#include <stdbool.h>

#include "tracking.h"

static pthread_barrier_t over;

static void* Wait(void* unused) {
  (void)unused;
  pthread_barrier_wait(&over);
  return NULL;
}

static uint64_t Arm(uint8_t* memory, uint64_t bytes, int huge, bool copies) {
  static int uffd = -1;
  if (uffd < 0) uffd = OpenAsync();
  uint8_t* copy = copies ? MapMemory(bytes, huge) : NULL;
  Register(uffd, memory, bytes, UFFDIO_REGISTER_MODE_WP);
  const uint64_t start = NowNs();
  WriteProtect(uffd, memory, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
  if (copy != NULL) memcpy(copy, memory, bytes);
  const uint64_t end = NowNs();
  Unregister(uffd, memory, bytes);
  if (copy != NULL) munmap(copy, bytes);
  return end - start;
}

static uint64_t OpenAndArm(uint8_t* memory, uint64_t bytes, bool begins) {
  const uint64_t start = NowNs();
  uint8_t* room = begins ? MapMemory(bytes, 0) : NULL;
  const int uffd = OpenUserfaultfd(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED, 0);
  pthread_t threads[2];
  for (int i = 0; begins && i < 2; i++) {
    Require(pthread_create(&threads[i], NULL, Wait, NULL) == 0, "pthread_create");
  }
  Register(uffd, memory, bytes, UFFDIO_REGISTER_MODE_WP);
  WriteProtect(uffd, memory, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
  const uint64_t end = NowNs();
  if (begins) {
    pthread_barrier_wait(&over);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    munmap(room, bytes);
  }
  close(uffd);
  return end - start;
}

int main(int argc, char** argv) {
  const uint64_t bytes = NumberArgument(argc, argv, 1);
  const int huge = NumberArgument(argc, argv, 2) != 0;
  const bool populated = NumberArgument(argc, argv, 3) != 0;
  Require(pthread_barrier_init(&over, NULL, 3) == 0, "pthread_barrier_init");
  Ready();
  char* how[1];
  while (NextRound(how, 1) == 1) {
    uint8_t* memory = MapMemory(bytes, huge);
    if (populated) memset(memory, 1, bytes);
    const bool begins = strcmp(how[0], "begin-and-arm") == 0;
    const uint64_t time = begins || strcmp(how[0], "open-and-arm") == 0
                              ? OpenAndArm(memory, bytes, begins)
                              : Arm(memory, bytes, huge, strcmp(how[0], "arm-and-copy") == 0);
    munmap(memory, bytes);
    Answer(&time, 1);
  }
  return 0;
}
