// collect BYTES POPULATED: tracks memory and collects what was written.
// A round: `collect COUNT RUN` writes so many pages, in runs, and collects them.
//          `keep COUNT RUN` the same, and copies them to memory that is there already.
//          `keep-of-one-instant COUNT RUN` the same, and scans again: nobody wrote meanwhile.
//          `keep-in-new-memory COUNT RUN` the same, copying to memory that has no pages yet.
//          `restore COUNT RUN` the same, and puts these pages back before they are armed again.
//          `restore-armed COUNT RUN` the same with pages that are armed: each costs a fault.
// Answers: ns, pages.

#include "tracking.h"

static uint8_t* memory;
static uint8_t* copy;
static uint8_t* next;  // where the next page goes in new memory

static void PutBack(uint64_t start, uint64_t end) {
  memcpy((uint8_t*)start, copy + (start - (uint64_t)memory), end - start);
}

static void Keep(uint64_t start, uint64_t end) {
  memcpy(copy + (start - (uint64_t)memory), (const uint8_t*)start, end - start);
}

static void KeepInOrder(uint64_t start, uint64_t end) {
  memcpy(next, (const uint8_t*)start, end - start);
  next += end - start;
}

int main(int argc, char** argv) {
  const uint64_t bytes = NumberArgument(argc, argv, 1);
  const int populated = NumberArgument(argc, argv, 2) != 0;
  const int pagemap = OpenPagemap();
  struct page_region* regions = MapRegions();
  const int uffd = OpenAsync();
  memory = MapMemory(bytes, 0);
  if (populated) memset(memory, 1, bytes);
  Register(uffd, memory, bytes, UFFDIO_REGISTER_MODE_WP);
  WriteProtect(uffd, memory, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
  Ready();
  char* words[3];
  uint8_t value = 1;
  while (NextRound(words, 3) == 3) {
    const int collects = strcmp(words[0], "collect") == 0;
    const int in_new_memory = strcmp(words[0], "keep-in-new-memory") == 0;
    const int of_one_instant = in_new_memory || strcmp(words[0], "keep-of-one-instant") == 0;
    const int keeps = of_one_instant || strcmp(words[0], "keep") == 0;
    const int before_arming = strcmp(words[0], "restore") == 0;
    if (copy == NULL && !collects) {
      copy = MapMemory(bytes, 0);
      memcpy(copy, memory, bytes);
    }
    WritePattern(memory, bytes, strtoull(words[1], NULL, 10), strtoull(words[2], NULL, 10),
                 ++value);
    const uint64_t new_bytes = strtoull(words[1], NULL, 10) * PAGE;
    uint8_t* const new_memory = in_new_memory ? MapMemory(new_bytes, 0) : NULL;
    next = new_memory;
    const uint64_t start = NowNs();
    const struct pm_scan_arg first = before_arming ? kPeek : kCollect;
    const uint64_t pages = ScanPages(pagemap, regions, first, memory, bytes,
                                     collects        ? NULL
                                     : in_new_memory ? KeepInOrder
                                     : keeps         ? Keep
                                                     : PutBack);
    if (before_arming || of_one_instant) ScanPages(pagemap, regions, kCollect, memory, bytes, NULL);
    const uint64_t end = NowNs();
    if (in_new_memory) munmap(new_memory, new_bytes);
    if (!collects && !keeps && !before_arming)
      ScanPages(pagemap, regions, kCollect, memory, bytes, NULL);
    Answer((uint64_t[]){end - start, pages}, 2);
  }
  return 0;
}
