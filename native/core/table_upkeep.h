// What a call of a history leaves to be done with its page table: pages that it took are entered in
// their versions, versions that it dropped are released. A helper does it while the table's owner
// goes on, or the owner itself, whoever is first. Then the helper makes the memory that the next
// call will probably take: a page fault and a clearing each, that a program would stand still for.
#ifndef UFFD_CORE_TABLE_UPKEEP_H_
#define UFFD_CORE_TABLE_UPKEEP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "core/helper.h"
#include "core/page_table.h"

namespace uffd {

// All calls are the owner's, who has the table for itself but between HandOver and Await.
class TableUpkeep {
 public:
  // Pages whose tables are reserved, and the version that is to have them.
  struct Entering {
    PageVersion* version;
    PageTable::Pages pages;
  };

  // `table`, and the versions that pages are entered in, are used until this is destroyed.
  explicit TableUpkeep(PageTable* table) noexcept;
  ~TableUpkeep();
  TableUpkeep(const TableUpkeep&) = delete;
  TableUpkeep& operator=(const TableUpkeep&) = delete;

  // When they are, the table has `*added` bytes more than `bytes_before`.
  void Enter(std::vector<Entering> entering, uint64_t bytes_before, uint64_t* added) noexcept;
  // After what is to be entered. `keep`: see PageTable::GiveBack.
  void Release(const PageVersion& version, uint64_t keep) noexcept;
  // About so many pages will be free when all is released.
  void ExpectFree(uint64_t pages) noexcept { expected_free_ = pages; }
  // So many will be placed.
  void ExpectPlaced(uint64_t pages) noexcept { expected_placed_ = pages; }
  // Has a helper do it, or does at once what cannot wait for one.
  void HandOver() noexcept;
  // All is done: by whom it was handed over to, if it is at it, and else by this thread. Memory may
  // still be made, of which the table does not know yet.
  void Await() noexcept;
  // After that: it knows now, and no more is begun.
  void EndWarmUp() noexcept;

 private:
  struct Tasks {
    std::vector<Entering> entering;
    uint64_t bytes_before = 0;
    uint64_t* added = nullptr;
    std::vector<PageVersion> released;
    uint64_t keep = 0;
    uint64_t warm = 0;  // pages, when all this is done

    bool Empty() const noexcept { return entering.empty() && released.empty(); }
  };
  class State;
  class Work;

  bool IsWorthAHelper() const noexcept;

  PageTable* const table_;
  const std::shared_ptr<State> state_;
  Tasks tasks_;              // nobody else's yet
  bool is_given_ = false;    // there were others, and they may not be done yet
  bool is_warming_ = false;  // memory may be being made, or be there and not noted
  uint64_t expected_free_ = 0;
  uint64_t expected_placed_ = 0;
  Helper::Chance chance_;
};

}  // namespace uffd

#endif  // UFFD_CORE_TABLE_UPKEEP_H_
