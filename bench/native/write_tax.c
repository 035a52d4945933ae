// write_tax BYTES: what the write of one byte to each page costs.
// A round: `untracked` writes pages that exist and nobody watches;
//          `first` pages that are armed, so that the kernel marks each;
//          `later S N` them N times more, after S times that are not counted;
//          `unwatched S N` the same of pages that nobody watches;
//          `mprotect` pages that mprotect(2) protects; a SIGSEGV handler makes each writable.
// Answers: ns in all.

#include "tracking.h"

static uint8_t* memory;
static uint64_t bytes;

static void MakeWritable(int signal, siginfo_t* info, void* context) {
  (void)signal;
  (void)context;
  void* page = (void*)((uint64_t)info->si_addr & ~(PAGE - 1));
  if (mprotect(page, PAGE, PROT_READ | PROT_WRITE) != 0) _exit(1);
}

static uint64_t WriteEachPage(uint8_t value) {
  const uint64_t start = NowNs();
  for (uint64_t at = 0; at < bytes; at += PAGE) *(volatile uint8_t*)(memory + at) = value;
  return NowNs() - start;
}

static uint64_t WriteLater(uint8_t value, uint64_t uncounted, uint64_t passes) {
  for (uint64_t i = 0; i < uncounted; i++) WriteEachPage(value);
  const uint64_t start = NowNs();
  for (uint64_t i = 0; i < passes; i++) WriteEachPage(value);
  return NowNs() - start;
}

int main(int argc, char** argv) {
  bytes = NumberArgument(argc, argv, 1);
  memory = MapMemory(bytes, 0);
  memset(memory, 1, bytes);
  const int uffd = OpenAsync();
  struct sigaction action = {.sa_sigaction = MakeWritable, .sa_flags = SA_SIGINFO};
  Require(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
  Ready();
  char* how[3];
  uint8_t value = 1;
  for (int words = NextRound(how, 3); words > 0; words = NextRound(how, 3)) {
    const uint64_t uncounted = words == 3 ? strtoull(how[1], NULL, 10) : 0;
    const uint64_t passes = words == 3 ? strtoull(how[2], NULL, 10) : 0;
    value++;
    uint64_t time = 0;
    if (strcmp(how[0], "unwatched") == 0) {
      time = WriteLater(value, uncounted, passes);
    } else if (strcmp(how[0], "untracked") == 0) {
      time = WriteEachPage(value);
    } else if (strcmp(how[0], "mprotect") == 0) {
      Require(mprotect(memory, bytes, PROT_READ) == 0, "mprotect");
      time = WriteEachPage(value);
    } else {
      Register(uffd, memory, bytes, UFFDIO_REGISTER_MODE_WP);
      WriteProtect(uffd, memory, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
      time = passes > 0 ? WriteLater(value, uncounted, passes) : WriteEachPage(value);
      Unregister(uffd, memory, bytes);
    }
    Answer(&time, 1);
  }
  return 0;
}
