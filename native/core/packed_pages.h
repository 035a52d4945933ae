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
#include <string_view>

#include "core/kernel_abi.h"
#include "core/range.h"

namespace uffd {

class PackedPages {
 public:
  // Begins a set of pages of `memory`, each of `page_size` bytes, with none of them.
  void Begin(Range memory, uint64_t page_size);
  // Those that lie in the memory. In the order of their addresses, over all calls.
  void Add(RangeSet* pages);
  void AddFound(const page_region* found, size_t count);
  // Until the next Begin.
  std::string_view End();

 private:
  template <typename Each>
  void AddEach(const Each* ranges, size_t count);
  void MakeRoom(size_t bytes);

  // Room that is there already costs no page faults. More than this is let go of after a set that
  // needed less.
  static constexpr size_t kKeptRoom = size_t{1} << 20;

  Range whole_{};       // the pages of the memory
  size_t longest_ = 0;  // bytes of a range at most
  Range last_{};        // not put down yet: the next may continue it
  uint64_t done_ = 0;   // where the one before it ends
  std::unique_ptr<char[]> bytes_;
  size_t room_ = 0;
  size_t needed_ = 0;  // of it, by this set
  size_t size_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_PACKED_PAGES_H_
