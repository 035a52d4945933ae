// Which slot holds each page of a memory in each version of it. Versions share all tables that are
// equal in both: a version costs the pages and tables that differ from the one it was made of, and
// finding what differs between two costs what differs.
//
// A tree of tables with 16 children each; a slot or table that several hold is never written.
#ifndef UFFD_CORE_PAGE_TABLE_H_
#define UFFD_CORE_PAGE_TABLE_H_

#include <cstdint>
#include <vector>

#include "core/result.h"
#include "core/slot_store.h"
#include "core/warm_up.h"

namespace uffd {

// One version of the pages of one memory. A page without a slot is of zeros.
struct PageVersion {
  uint32_t root = SlotStore::kNone;
  uint64_t pages = 0;   // that have a slot
  uint64_t tables = 0;  // it consists of

  uint64_t Bytes() const noexcept;  // of pages and tables, as if it shared none
};

class PageTable {
 public:
  // What a page is to hold, of a version that does not say so yet.
  struct Placed {
    uint64_t page;
    uint32_t slot;  // kNone: zeros
  };
  using Pages = std::vector<Placed>;

  static constexpr uint64_t kTableBytes = 64;
  // Page numbers are below this: 256 TiB of memory.
  static constexpr uint64_t kMostPages = uint64_t{1} << 36;

  PageTable() noexcept;

  Result<PageVersion> Copy(const PageVersion& version) noexcept;
  void Release(const PageVersion& version) noexcept { ReleaseTable(version.root, 0); }

  // kNone for a page of zeros.
  uint32_t Find(const PageVersion& version, uint64_t page) const noexcept;
  uint8_t* Data(uint32_t slot) const noexcept { return pages_.Data(slot); }
  // A slot for the page that no other version holds; what it holds is the same page of `version` if
  // nobody else held that, else anything.
  Result<uint32_t> Own(PageVersion* version, uint64_t page) noexcept;
  // The page is of zeros.
  Status Clear(PageVersion* version, uint64_t page) noexcept;

  // A slot that no version holds. To place pages and enter them later is the same as Own and Clear,
  // but who waits for them does not wait for the tables: of pages that lie far apart each has a few
  // to copy, and they are in no cache.
  Result<uint32_t> Place() noexcept { return pages_.Take(); }
  // Those of a version that is not made.
  void GiveUp(const Pages& pages) noexcept;
  // At least as many as Enter takes, and the fewer the more they are in order; what is reserved it
  // finds.
  static uint64_t MostTablesFor(const Pages& pages) noexcept;
  Status ReserveTables(uint64_t count) noexcept { return tables_.Reserve(count); }
  void Enter(PageVersion* version, const Pages& pages) noexcept;

  // Calls visit(page, slot of a, slot of b) for each page that has not the same slot in both,
  // ascending.
  template <typename Visit>
  void ForEachDifference(const PageVersion& a, const PageVersion& b, Visit visit) const noexcept {
    Compare(a.root, b.root, 0, 0, visit);
  }

  // What would be freed if the version was released now.
  uint64_t OwnBytes(const PageVersion& version) const noexcept { return OwnBytes(version.root, 0); }
  uint64_t Bytes() const noexcept { return pages_.Bytes() + tables_.Bytes(); }
  // Also those of pages that are placed.
  uint64_t Slots() const noexcept { return pages_.Bytes() / PageSize(); }
  // `pages`: how many free ones to keep at hand.
  void GiveBack(uint64_t pages) noexcept;

  // Whether so many pages more find their memory ready, and what has to be made for that.
  bool IsWarmFor(uint64_t pages) const noexcept { return pages_.Warm() >= pages; }
  WarmUp::Slots ColdFor(uint64_t pages) noexcept;
  // Those have memory now.
  void NoteWarm(const WarmUp::Slots& made) noexcept;

 private:
  static constexpr uint32_t kBits = 4;
  static constexpr uint32_t kFanout = 1 << kBits;
  static constexpr uint32_t kLevels = 9;
  static constexpr uint64_t kTablesPerPage = 4;  // few pages need more
  struct Table {
    uint32_t child[kFanout];
  };

  static uint32_t IndexAt(uint64_t page, uint32_t level) noexcept {
    return page >> ((kLevels - 1 - level) * kBits) & (kFanout - 1);
  }
  Table* At(uint32_t table) const noexcept { return reinterpret_cast<Table*>(tables_.Data(table)); }
  uint32_t Child(uint32_t table, uint32_t index) const noexcept {
    return table == SlotStore::kNone ? SlotStore::kNone : At(table)->child[index];
  }
  // What the children of a table of this level are.
  SlotStore* ChildrenOf(uint32_t level) noexcept {
    return level == kLevels - 1 ? &pages_ : &tables_;
  }
  Result<uint32_t> CopyTable(uint32_t table, uint32_t level) noexcept;
  void ReleaseTable(uint32_t table, uint32_t level) noexcept;
  uint64_t OwnBytes(uint32_t table, uint32_t level) const noexcept;
  // Where the page's slot stands, after every table on the way there is the version's own.
  Result<uint32_t*> OwnEntry(PageVersion* version, uint64_t page) noexcept;
  void Prefetch(const PageVersion& version, uint64_t page) const noexcept;
  void Put(PageVersion* version, uint32_t* place, uint32_t slot) noexcept;

  template <typename Visit>
  void Compare(uint32_t a, uint32_t b, uint32_t level, uint64_t first,
               Visit& visit) const noexcept {
    if (a == b) return;
    if (level == kLevels) {
      visit(first, a, b);
      return;
    }
    for (uint32_t i = 0; i < kFanout; i++) {
      Compare(Child(a, i), Child(b, i), level + 1, first << kBits | i, visit);
    }
  }

  SlotStore pages_;
  SlotStore tables_;
};

}  // namespace uffd

#endif  // UFFD_CORE_PAGE_TABLE_H_
