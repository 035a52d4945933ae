#include "core/memory_map.h"

#include <cinttypes>
#include <cstdio>
#include <memory>

namespace uffd {

bool IsPrivateAnonymous(Range range) noexcept {
  struct CloseFile {
    void operator()(FILE* file) const noexcept { static_cast<void>(fclose(file)); }
  };
  const std::unique_ptr<FILE, CloseFile> maps(fopen("/proc/self/maps", "re"));
  if (!maps) return false;
  uint64_t covered = range.start;
  char line[256];
  bool begins_line = true;
  while (covered < range.end && fgets(line, sizeof(line), maps.get()) != nullptr) {
    const bool is_first_part = begins_line;
    begins_line =
        std::char_traits<char>::find(line, std::char_traits<char>::length(line), '\n') != nullptr;
    if (!is_first_part) continue;  // the rest of a long file name
    Range mapped;
    char sharing = 0;
    uint64_t inode = 1;
    // start-end rwxp offset device inode
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*3c%c %*x %*x:%*x %" SCNu64, &mapped.start,
               &mapped.end, &sharing, &inode) != 4) {
      return false;
    }
    if (!mapped.Overlaps(range)) continue;
    if (mapped.start > covered || sharing != 'p' || inode != 0) return false;
    covered = mapped.end;
  }
  return covered >= range.end;
}

}  // namespace uffd
