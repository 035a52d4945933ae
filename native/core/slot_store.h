// Slots of one size, each with a count of who holds it, in mappings of their own: nothing here is
// the heap's. A slot that nobody holds is used again, the last freed ones without a page fault.
#ifndef UFFD_CORE_SLOT_STORE_H_
#define UFFD_CORE_SLOT_STORE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "core/mapping.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

class SlotStore {
 public:
  static constexpr uint32_t kNone = 0;  // no slot has this number

  SlotStore(uint64_t slot_bytes, HugePageAdvice advice) noexcept
      : slot_bytes_(slot_bytes), advice_(advice) {}

  // A slot with one holder. It holds anything.
  Result<uint32_t> Take() noexcept;
  void Share(uint32_t slot) noexcept { HoldersOf(slot)++; }
  // True when that was the last holder.
  bool Release(uint32_t slot) noexcept;
  uint32_t Holders(uint32_t slot) const noexcept { return HoldersOf(slot); }
  uint8_t* Data(uint32_t slot) const noexcept {
    return extents_[slot / kPerExtent].data + slot % kPerExtent * slot_bytes_;
  }

  // So many can be taken and none of them fails.
  Status Reserve(uint64_t count) noexcept;

  // Of the slots that somebody holds.
  uint64_t Bytes() const noexcept { return used_ * slot_bytes_; }
  // Gives the memory of free slots back to the kernel until about `keep` of them have any.
  void GiveBack(uint64_t keep) noexcept;

  // Free slots in a row that have no memory yet; not more than the kernel makes in a moment: as
  // long as it is at that, nobody can map or unmap anything.
  struct Cold {
    std::shared_ptr<Mapping> mapping;  // which has them
    Range bytes;                       // the pages they lie in
    Range counts;                      // and those of who holds the slots of their extent
    uint32_t first;
    uint32_t count;
  };
  // Of the free slots.
  uint64_t Warm() const noexcept { return warm_; }
  // As many as make `count` free slots with memory of those that have it.
  std::vector<Cold> ColdFor(uint64_t count) noexcept;
  // They have memory now.
  void NoteWarm(const Cold& slots) noexcept;

 private:
  static constexpr uint32_t kPerExtent = 8192;
  static constexpr uint64_t kColdPages = 64;
  static constexpr uint32_t kBits = 64;
  static constexpr uint32_t kWords = kPerExtent / kBits;
  static constexpr uint64_t kCountBytes =
      kPerExtent * sizeof(uint32_t) + 2 * sizeof(uint64_t) * kWords;

  // One mapping: the slots, then their counts and bitmaps.
  struct Extent {
    std::shared_ptr<Mapping> mapping;
    uint8_t* data;
    uint32_t* holders;
    uint64_t* used;      // a bit for each slot that somebody holds
    uint64_t* backed;    // and for each that has memory
    uint32_t free = 0;   // slots nobody holds
    uint32_t warm = 0;   // those of them that have memory
    uint32_t first = 0;  // no word of the bitmaps before this one has a free slot
  };

  uint32_t& HoldersOf(uint32_t slot) const noexcept {
    return extents_[slot / kPerExtent].holders[slot % kPerExtent];
  }
  Status AddExtent() noexcept;
  void GiveBack(Extent* extent) noexcept;
  void GiveBackRun(Extent* extent, uint32_t first, uint32_t end) noexcept;
  Cold NextCold(uint32_t extent, uint32_t from, uint64_t most) const noexcept;

  const uint64_t slot_bytes_;
  const HugePageAdvice advice_;
  std::vector<Extent> extents_;
  uint64_t used_ = 0;
  uint64_t warm_ = 0;
  // No extent before these has a free slot, or one with memory.
  size_t first_free_ = 0;
  size_t first_warm_ = 0;
  uint64_t give_back_above_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_SLOT_STORE_H_
