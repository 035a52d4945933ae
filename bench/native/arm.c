// arm BYTES HUGE: write-protects memory that nobody has touched, after making it exist in some way.
// A round: default | pre-read | madvise | wp-unpopulated.
// Answers: ns in all, ns of those for making the pages exist, armed pages.

#include "tracking.h"

int main(int argc, char** argv) {
  const uint64_t bytes = NumberArgument(argc, argv, 1);
  const int huge = NumberArgument(argc, argv, 2) != 0;
  const int pagemap = OpenPagemap();
  struct page_region* regions = MapRegions();
  Ready();
  char* how[1];
  while (NextRound(how, 1) == 1) {
    const int unpopulated = strcmp(how[0], "wp-unpopulated") == 0;
    const int uffd = OpenUserfaultfd(
        UFFD_FEATURE_PAGEFAULT_FLAG_WP | (unpopulated ? UFFD_FEATURE_WP_UNPOPULATED : 0), 0);
    uint8_t* memory = MapMemory(bytes, huge);
    Register(uffd, memory, bytes, UFFDIO_REGISTER_MODE_WP);
    const uint64_t start = NowNs();
    if (strcmp(how[0], "pre-read") == 0) {
      for (uint64_t at = 0; at < bytes; at += PAGE) (void)*(volatile uint8_t*)(memory + at);
    } else if (strcmp(how[0], "madvise") == 0) {
      Require(madvise(memory, bytes, MADV_POPULATE_READ) == 0, "MADV_POPULATE_READ");
    }
    const uint64_t exists = NowNs();
    WriteProtect(uffd, memory, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
    const uint64_t end = NowNs();
    const uint64_t armed = ScanPages(pagemap, regions, kArmed, memory, bytes, NULL);
    close(uffd);
    munmap(memory, bytes);
    Answer((uint64_t[]){end - start, exists - start, armed}, 3);
  }
  return 0;
}
