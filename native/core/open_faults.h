// The faults that a handler in JavaScript is to end: which are open, and how the last ones ended.
//
//   open -> claimed -> ended       the handler resolves it
//   open -> ended                  the loop does: deadline, no consumer, ...
//
// A claimed fault is left alone by the loop; a claim that fails gives it back. Nothing here locks:
// every call is made under the FaultServer's mutex.
#ifndef UFFD_CORE_OPEN_FAULTS_H_
#define UFFD_CORE_OPEN_FAULTS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "core/fault.h"
#include "core/mapping.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

class OpenFaults {
 public:
  using Clock = std::chrono::steady_clock;
  // A blocked thread raises one fault, so this is a number of threads.
  static constexpr size_t kCapacity = 4096;

  struct Entry {
    uint64_t id = 0;
    Event fault;
    Clock::time_point due;  // when the loop ends it
    EndedBy due_to = EndedBy::kDeadline;
    bool open = false;
    bool claimed = false;
    bool attached = false;  // others came to it
    Ending ending;
  };

  // Before the first Add: the entries take a mapping of their own, which most userfaultfds never
  // need. It is taken the first time.
  static Result<std::shared_ptr<Mapping>> MakeEntries() noexcept;
  void Prepare(std::shared_ptr<Mapping>* entries) noexcept;
  // 0 when all entries are open.
  uint64_t Add(const Event& fault, Clock::time_point due) noexcept;
  // Another thread's fault for the same reason, or the same thread's once more after a signal: one
  // fault, ended once, and whatever ends it wakes the page. False: none is open.
  bool Attach(Range page, FaultReason reason) noexcept;
  Entry* FindOpen(uint64_t id) noexcept;
  // What is known of it; EndedBy::kForgotten when many others came after it.
  Ending EndingOf(uint64_t id) const noexcept;
  void End(Entry* entry, Ending ending) noexcept;
  // Ends the unclaimed ones in the range, and tells whether there was any.
  bool EndIn(Range range, Ending ending) noexcept;

  size_t OpenCount() const noexcept { return open_count_; }
  // Of the unclaimed ones.
  std::optional<Clock::time_point> NextDue() const noexcept;
  template <typename Visit>  // may end what it visits
  void ForEachOpen(Visit visit) noexcept {
    for (size_t i = open_count_; i-- > 0;) visit(&table_->entries[table_->open[i]]);
  }

 private:
  struct Table {
    Entry entries[kCapacity];  // fault `id` is at id % kCapacity
    uint16_t open[kCapacity];  // the indexes of the open ones
  };

  std::shared_ptr<Mapping> memory_;
  Table* table_ = nullptr;  // zeros are entries that were never used
  uint64_t next_id_ = 1;
  size_t open_count_ = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_OPEN_FAULTS_H_
