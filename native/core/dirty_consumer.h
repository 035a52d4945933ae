// One reader of tracked memory with its own "since I last looked". Several may share one tracker:
// what one of them collects is kept for the others (test 55, B19). All of one tracker belong to one
// thread.
#ifndef UFFD_CORE_DIRTY_CONSUMER_H_
#define UFFD_CORE_DIRTY_CONSUMER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "core/dirty_engine.h"
#include "core/dirty_tracker.h"
#include "core/packed_pages.h"

namespace uffd {

class DirtyConsumer {
 public:
  // Starts a tracker. The memory must live as long as any consumer of it. `memory`: its mapping,
  // when it is our own.
  static Result<std::unique_ptr<DirtyConsumer>> Open(
      DirtyEngine engine, Range bytes, uint64_t page_size,
      const std::shared_ptr<Mapping>& memory) noexcept;
  // One more reader, which has seen everything written until now. `now`: where the memory is.
  Result<std::unique_ptr<DirtyConsumer>> Another(Range now) noexcept;
  ~DirtyConsumer();
  DirtyConsumer(const DirtyConsumer&) = delete;
  DirtyConsumer& operator=(const DirtyConsumer&) = delete;

  // Both begin `dirty` and fill it.
  Status Collect(Range now, PackedPages* dirty) noexcept;
  Status Peek(Range now, PackedPages* dirty) noexcept;
  // What is known of the writes to the pages that were collected since.
  WriteLog TakeWrites() noexcept;
  // The next collect of every reader reports these pages.
  void MarkDirty(Range bytes) noexcept;
  // Of this reader only: what it collected and could not hand over.
  void PutBack(Range bytes) noexcept;

 private:
  struct Shared {
    std::unique_ptr<DirtyTracker> tracker;
    Range bytes;
    uint64_t page_size;
    std::vector<DirtyConsumer*> consumers;
  };
  explicit DirtyConsumer(std::shared_ptr<Shared> shared) noexcept;
  Status Follow(Range now) noexcept;
  // Takes what is new from the tracker and gives it to every other reader.
  Status Share(RangeSet* fresh) noexcept;
  // What was found, with what this reader has not collected yet.
  void Pack(RangeSet* found, PackedPages* dirty) const noexcept;
  Range Pages() const noexcept { return shared_->bytes.RoundOutward(shared_->page_size); }

  std::shared_ptr<Shared> shared_;
  RangeSet pending_;  // taken from the tracker, not yet collected by this reader
  WriteLog writes_;
};

}  // namespace uffd

#endif  // UFFD_CORE_DIRTY_CONSUMER_H_
