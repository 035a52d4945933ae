// copy BYTES HUGE POPULATED: arming memory, and copying it into memory that is fresh.
// A round: `arm` or `arm-and-copy`, of memory made anew. Answers: ns.

#include <stdbool.h>

#include "tracking.h"

int main(int argc, char** argv) {
  const uint64_t bytes = NumberArgument(argc, argv, 1);
  const int huge = NumberArgument(argc, argv, 2) != 0;
  const bool populated = NumberArgument(argc, argv, 3) != 0;
  const int uffd = OpenAsync();
  Ready();
  char* how[1];
  while (NextRound(how, 1) == 1) {
    uint8_t* memory = MapMemory(bytes, huge);
    if (populated) memset(memory, 1, bytes);
    uint8_t* copy = strcmp(how[0], "arm-and-copy") == 0 ? MapMemory(bytes, huge) : NULL;
    Register(uffd, memory, bytes, UFFDIO_REGISTER_MODE_WP);
    const uint64_t start = NowNs();
    WriteProtect(uffd, memory, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
    if (copy != NULL) memcpy(copy, memory, bytes);
    const uint64_t end = NowNs();
    Unregister(uffd, memory, bytes);
    munmap(memory, bytes);
    if (copy != NULL) munmap(copy, bytes);
    Answer((uint64_t[]){end - start}, 1);
  }
  return 0;
}
