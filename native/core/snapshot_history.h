// Many versions of live memory, each at the cost of the pages written since the one before, and the
// way back to any of them at the cost of the pages that differ. Knows dirty trackers, not
// userfaultfd.
#ifndef UFFD_CORE_SNAPSHOT_HISTORY_H_
#define UFFD_CORE_SNAPSHOT_HISTORY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/consistent_copy.h"
#include "core/dirty_engine.h"
#include "core/dirty_tracker.h"
#include "core/mapping.h"
#include "core/page_table.h"
#include "core/parallel_copy.h"
#include "core/populated_pages.h"
#include "core/range.h"
#include "core/result.h"
#include "core/table_upkeep.h"

namespace uffd {

class SnapshotHistory {
 public:
  struct Source {
    Range bytes;                       // any alignment
    uint64_t page_size;                // of the memory
    std::shared_ptr<Mapping> mapping;  // memory of our own in which they lie, else null
  };
  struct Restored {
    uint64_t pages = 0;      // put back
    uint64_t bytes = 0;      // of those pages, inside the memories
    uint64_t different = 0;  // pages that somebody wrote meanwhile and that differ again
  };
  // Pages of one memory, and the addresses its bytes have, or would have at the size they are told
  // of.
  struct Difference {
    RangeSet pages;
    Range bytes;
  };

  // Tracks the memories from here on.
  static Result<std::unique_ptr<SnapshotHistory>> Track(const std::vector<Source>& sources,
                                                        DirtyEngine engine,
                                                        ConsistentCopy::Writers writers) noexcept;
  SnapshotHistory(const SnapshotHistory&) = delete;
  SnapshotHistory& operator=(const SnapshotHistory&) = delete;

  // `live`, here and below: where the memories are now. Adds an entry and returns its number.
  // EAGAIN: the writers never paused. ENOSPC: the entry by itself is larger than `most_bytes`.
  // Nothing is lost then.
  Result<uint64_t> Take(const std::vector<Range>& live,
                        std::optional<uint64_t> most_bytes) noexcept;
  // A memory that grew is put back and the rest zeroed; one that is smaller than it was is ERANGE
  // and nothing is written.
  Result<Restored> Restore(uint64_t entry, const std::vector<Range>& live) noexcept;
  Status CheckRestore(uint64_t entry, const std::vector<Range>& live) const noexcept;
  // The pages whose bytes differ, those of the size that only one has counting as zeros.
  std::vector<Difference> Diff(uint64_t a, uint64_t b) noexcept;
  Result<std::vector<Difference>> DiffLive(uint64_t entry, const std::vector<Range>& live) noexcept;
  void Read(uint64_t entry, size_t memory, uint64_t offset, uint64_t length, uint8_t* to) noexcept;
  // What it alone holds is given back with KeepUp, or by what comes next.
  void Drop(uint64_t entry) noexcept;
  // Does what Take and Drop leave to be done: meanwhile, by a helper, or at once.
  void KeepUp() noexcept { upkeep_.HandOver(); }

  uint64_t Bytes() noexcept;
  // By which taking the entry made that more.
  uint64_t AddedBytes(uint64_t entry) noexcept;
  // What dropping the entry would free now.
  uint64_t OwnBytes(uint64_t entry) noexcept;

 private:
  struct Memory {
    Range live;
    uint64_t page_size;
    std::unique_ptr<DirtyTracker> tracker;
    PopulatedPages populated;

    // Pages are counted from the one that holds its first byte.
    Range PageAt(uint64_t page) const noexcept;
    uint64_t PageOf(uint64_t address) const noexcept;
  };
  struct Version {
    PageVersion pages;
    uint64_t bytes = 0;  // size of the memory
  };
  using Versions = std::vector<Version>;  // one for each memory
  struct Entry {
    Versions versions;  // complete after upkeep_.Await()
    uint64_t slots_taken = 0;
    uint64_t bytes_added = 0;  // as the versions
  };
  class Taking;

  explicit SnapshotHistory(ConsistentCopy::Writers writers) noexcept : writers_(writers) {}
  Status Follow(const std::vector<Range>& live) noexcept;
  uint64_t PagesOfAll() const noexcept;
  Status CheckReadable() const noexcept;
  Result<Versions> CopyOfHead() noexcept;
  Status ForgetBehindEnd(size_t index, Version* version) noexcept;
  void Release(const Versions& versions) noexcept;
  // Of the versions that the memories equal but for what was written since; none: all of zeros.
  PageVersion Head(size_t memory) const noexcept;
  // The pages that may differ from the entry now.
  Status Candidates(size_t memory, const Version& version, RangeSet* pages) noexcept;
  void AddBehindEnd(const Memory& memory, const Version& version,
                    RangeSet* different) const noexcept;
  bool Differs(const Memory& memory, const Version& version, Range page,
               bool exists) const noexcept;
  void PutBack(const Memory& memory, const Version& version, Range page) const noexcept;
  template <typename Visit>
  static void ForEachPage(Memory* memory, Range pages, Visit visit) noexcept;
  template <typename Visit>
  void ForEachDiffering(size_t memory, const Version& version, RangeSet* pages,
                        Visit visit) noexcept;

  const ConsistentCopy::Writers writers_;
  PageTable table_;
  ParallelCopy copies_;  // into it
  std::vector<Memory> memories_;
  std::map<uint64_t, Entry> entries_;
  TableUpkeep upkeep_{&table_};  // of them and the table: ends first
  // Invariant: a page that no tracker calls written holds what it does in this entry; 0: zeros.
  uint64_t head_ = 0;
  uint64_t last_entry_ = 0;
  uint64_t spare_pages_ = 0;  // what the last entry took, to be at hand for the next one
};

}  // namespace uffd

#endif  // UFFD_CORE_SNAPSHOT_HISTORY_H_
