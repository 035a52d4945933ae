// A set of pages in few bytes, as lib/packed-pages.ts reads it: numbers to base 128, the lowest
// digit first, each digit but a number's last with bit 7. The first number is where the memory
// begins in its first page, in bytes. Then for each range: how many pages lie between it and the
// one before (or that first page), times two; plus one where it has more than one page, and then
// how many it has. These are pages of the system, also where the memory has larger ones. So a
// scattered page is one byte, and little new memory is needed for the string that is made of it.
#ifndef UFFD_CORE_PACKED_PAGES_H_
#define UFFD_CORE_PACKED_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/range.h"

namespace uffd {

class PackedPages {
 public:
  // Those of `pages` that lie in the memory, whose pages have `page_size` bytes.
  void Assign(RangeSet* pages, Range memory, uint64_t page_size);
  const char* Data() const noexcept { return bytes_.get(); }
  size_t Size() const noexcept { return size_; }

 private:
  void MakeRoom(size_t bytes);

  // Room that is there already costs no page faults. More than this is let go of by the next set
  // that needs less.
  static constexpr size_t kKeptRoom = size_t{1} << 20;

  std::unique_ptr<char[]> bytes_;
  size_t room_ = 0;
  size_t size_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_PACKED_PAGES_H_
