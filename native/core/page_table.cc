#include "core/page_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace uffd {
namespace {

// So many pages before it is their turn their tables are asked for: they are in no cache.
constexpr size_t kAhead = 16;

}  // namespace

uint64_t PageVersion::Bytes() const noexcept {
  return pages * PageSize() + tables * PageTable::kTableBytes;
}

// Without huge pages: one page that is kept must not cost a huge one.
PageTable::PageTable() noexcept
    : pages_(PageSize(), HugePageAdvice::kNever), tables_(kTableBytes, HugePageAdvice::kNever) {
  static_assert(sizeof(Table) == kTableBytes);
}

Result<PageVersion> PageTable::Copy(const PageVersion& version) noexcept {
  const Result<uint32_t> root = CopyTable(version.root, 0);
  if (!root) return root.Error();
  PageVersion copy = version;
  copy.root = root.Value();
  if (version.root == SlotStore::kNone) copy.tables = 1;
  return copy;
}

Result<uint32_t> PageTable::CopyTable(uint32_t table, uint32_t level) noexcept {
  const Result<uint32_t> copy = tables_.Take();
  if (!copy) return copy;
  Table* to = At(copy.Value());
  if (table == SlotStore::kNone) {
    std::memset(to, 0, sizeof(Table));
    return copy;
  }
  std::memcpy(to, At(table), sizeof(Table));
  SlotStore* children = ChildrenOf(level);
  for (const uint32_t child : to->child) {
    if (child != SlotStore::kNone) children->Share(child);
  }
  return copy;
}

void PageTable::ReleaseTable(uint32_t table, uint32_t level) noexcept {
  if (table == SlotStore::kNone || !tables_.Release(table)) return;
  // Free already, but nobody takes a slot before this is done.
  for (const uint32_t child : At(table)->child) {
    if (child == SlotStore::kNone) continue;
    if (level == kLevels - 1) {
      pages_.Release(child);
    } else {
      ReleaseTable(child, level + 1);
    }
  }
}

uint32_t PageTable::Find(const PageVersion& version, uint64_t page) const noexcept {
  uint32_t at = version.root;
  for (uint32_t level = 0; level < kLevels; level++) at = Child(at, IndexAt(page, level));
  return at;
}

void PageTable::Prefetch(const PageVersion& version, uint64_t page) const noexcept {
  uint32_t table = version.root;
  for (uint32_t level = 0; level < kLevels - 1; level++) {
    table = Child(table, IndexAt(page, level));
  }
  if (table != SlotStore::kNone) __builtin_prefetch(At(table));
}

Result<uint32_t*> PageTable::OwnEntry(PageVersion* version, uint64_t page) noexcept {
  uint32_t table = version->root;
  for (uint32_t level = 0; level < kLevels - 1; level++) {
    const uint32_t index = IndexAt(page, level);
    const uint32_t child = At(table)->child[index];
    if (child != SlotStore::kNone && tables_.Holders(child) == 1) {
      table = child;
      continue;
    }
    const Result<uint32_t> own = CopyTable(child, level + 1);
    if (!own) return own.Error();
    if (child == SlotStore::kNone) {
      version->tables++;
    } else {
      tables_.Release(child);
    }
    At(table)->child[index] = own.Value();
    table = own.Value();
  }
  return &At(table)->child[IndexAt(page, kLevels - 1)];
}

void PageTable::Put(PageVersion* version, uint32_t* place, uint32_t slot) noexcept {
  if (*place != SlotStore::kNone) {
    pages_.Release(*place);
    version->pages--;
  }
  if (slot != SlotStore::kNone) version->pages++;
  *place = slot;
}

Result<uint32_t> PageTable::Own(PageVersion* version, uint64_t page) noexcept {
  const Result<uint32_t*> place = OwnEntry(version, page);
  if (!place) return place.Error();
  const uint32_t present = *place.Value();
  if (present != SlotStore::kNone && pages_.Holders(present) == 1) return present;
  const Result<uint32_t> slot = pages_.Take();
  if (slot) Put(version, place.Value(), slot.Value());
  return slot;
}

Status PageTable::Clear(PageVersion* version, uint64_t page) noexcept {
  if (Find(*version, page) == SlotStore::kNone) return Done{};
  const Result<uint32_t*> place = OwnEntry(version, page);
  if (!place) return place.Error();
  Put(version, place.Value(), SlotStore::kNone);
  return Done{};
}

void PageTable::GiveUp(const Pages& pages) noexcept {
  for (const Placed& each : pages) {
    if (each.slot != SlotStore::kNone) pages_.Release(each.slot);
  }
}

uint64_t PageTable::MostTablesFor(const Pages& pages) noexcept {
  uint64_t tables = 0;
  // For the first one, all of them.
  uint64_t before = kMostPages;
  for (const Placed& each : pages) {
    const uint64_t differs = each.page ^ before;
    before = each.page;
    if (differs == 0) continue;
    const uint32_t highest_bit = std::bit_width(differs) - 1;
    tables += std::min(highest_bit / kBits, kLevels - 1);
  }
  return tables;
}

void PageTable::Enter(PageVersion* version, const Pages& pages) noexcept {
  for (size_t i = 0; i < pages.size(); i++) {
    if (i + kAhead < pages.size()) Prefetch(*version, pages[i + kAhead].page);
    Put(version, OwnEntry(version, pages[i].page).Value(), pages[i].slot);
  }
}

uint64_t PageTable::OwnBytes(uint32_t table, uint32_t level) const noexcept {
  if (table == SlotStore::kNone || tables_.Holders(table) > 1) return 0;
  uint64_t bytes = kTableBytes;
  for (const uint32_t child : At(table)->child) {
    if (level < kLevels - 1) {
      bytes += OwnBytes(child, level + 1);
    } else if (child != SlotStore::kNone && pages_.Holders(child) == 1) {
      bytes += PageSize();
    }
  }
  return bytes;
}

void PageTable::GiveBack(uint64_t pages) noexcept {
  pages_.GiveBack(pages);
  tables_.GiveBack(pages * kTablesPerPage);
}

WarmUp::Slots PageTable::ColdFor(uint64_t pages) noexcept {
  return {pages_.ColdFor(pages), tables_.ColdFor(pages * kTablesPerPage)};
}

void PageTable::NoteWarm(const WarmUp::Slots& made) noexcept {
  for (const SlotStore::Cold& slots : made.pages) pages_.NoteWarm(slots);
  for (const SlotStore::Cold& slots : made.tables) tables_.NoteWarm(slots);
}

}  // namespace uffd
