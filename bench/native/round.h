// A program that measures: it prepares, says "ready", and then does one round for each line of its
// input, answering with a line of numbers. It ends with its input, or with its parent.
#ifndef UFFD_BENCH_ROUND_H_
#define UFFD_BENCH_ROUND_H_

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define PAGE UINT64_C(4096)

static inline uint64_t NowNs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static inline void Die(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static inline void Require(int ok, const char* what) {
  if (!ok) Die(what);
}

static inline uint64_t NumberArgument(int argc, char** argv, int i) {
  if (i >= argc) {
    fprintf(stderr, "argument %d is missing\n", i);
    exit(1);
  }
  return strtoull(argv[i], NULL, 10);
}

static inline void Ready(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  puts("ready");
  fflush(stdout);
}

// The next round: its words, at most `room`. 0 at the end of the input.
static inline int NextRound(char** words, int room) {
  static char line[256];
  if (fgets(line, sizeof(line), stdin) == NULL) return 0;
  int count = 0;
  for (char* word = strtok(line, " \n"); word != NULL && count < room; word = strtok(NULL, " \n")) {
    words[count++] = word;
  }
  return count;
}

static inline void Answer(const uint64_t* numbers, size_t count) {
  for (size_t i = 0; i < count; i++) printf(i == 0 ? "%lu" : " %lu", (unsigned long)numbers[i]);
  putchar('\n');
  fflush(stdout);
}

#endif  // UFFD_BENCH_ROUND_H_
