// Copying what was written to several memories, which others may write meanwhile, so that the copy
// is of one instant. Knows dirty trackers, not where the copy is kept.
#ifndef UFFD_CORE_CONSISTENT_COPY_H_
#define UFFD_CORE_CONSISTENT_COPY_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "core/dirty_tracker.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

class ConsistentCopy {
 public:
  struct Memory {
    Range bytes;
    DirtyTracker* tracker;
  };

  // Where the copy is kept. Pages are addresses; of a page that a memory shares with other data,
  // only the memory's bytes count.
  class Sink {
   public:
    virtual ~Sink() = default;
    // Pages that are the memory's own, to be copied until FinishCopies returns, which is called
    // also when this failed.
    virtual Status Copy(size_t memory, const std::vector<Range>& runs) noexcept = 0;
    virtual void FinishCopies() noexcept = 0;
    virtual bool Differs(size_t memory, Range page) noexcept = 0;
    // After this Update writes no memory but the copy.
    virtual Status Prepare(size_t memory, Range page) noexcept = 0;
    virtual void Update(size_t memory, Range page) noexcept = 0;
  };

  // Who may write meanwhile: threads of this process, or another process as well (ptrace(2),
  // process_vm_writev(2)).
  enum class Writers { kThreads, kAnybody };

  // The first and last page of `bytes` where others write them too.
  static std::vector<Range> SharedPagesOf(Range bytes);

  ConsistentCopy(std::vector<Memory> memories, Sink* sink, Writers writers) noexcept;

  // Collects and copies until the copy is of one instant. EAGAIN: the writers never paused. When it
  // fails the pages are in the next collect again (test 62, B8).
  Status Run() noexcept;
  // The same after it succeeded, for a copy that cannot be kept.
  void PutBack() noexcept;

 private:
  struct SharedPage {
    Range page;
    DirtyTracker* tracker;
  };
  struct Pass {
    bool changed = false;
    bool neighbours_wrote = false;
  };

  Status Repeat() noexcept;
  Result<Pass> CopyOnce() noexcept;
  Status CopyWritten(size_t memory, Pass* pass) noexcept;
  Status CopyShared(size_t memory, Range page, Pass* pass) noexcept;
  bool AnyDirty() const noexcept;
  Result<bool> HeldStill() noexcept;
  Result<bool> SettleAndCompare() noexcept;
  // Calls visit(memory, page) for each page of each memory that one of them shares, until it says
  // no.
  template <typename Visit>
  void ForEachShared(Visit visit) const noexcept;

  const std::vector<Memory> memories_;
  Sink* const sink_;
  uint64_t worth_asking_ = 0;        // so many threads at most whether they slept
  std::vector<RangeSet> collected_;  // from each memory
  std::vector<SharedPage> shared_;   // with other data or each other; ascending, each once
};

}  // namespace uffd

#endif  // UFFD_CORE_CONSISTENT_COPY_H_
