#include "core/snapshot.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/compare.h"
#include "core/lost_pages.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

uint8_t* Pointer(uint64_t address) noexcept { return reinterpret_cast<uint8_t*>(address); }

}  // namespace

uint8_t* Snapshot::Memory::CopyAt(uint64_t offset) const noexcept {
  return copy->Data() + taken.start % PageSize() + offset;
}

Status Snapshot::Follow(const std::vector<Range>& live) noexcept {
  for (size_t i = 0; i < memories_.size(); i++) {
    if (live[i].Length() < memories_[i].taken.Length()) return Failure{ERANGE, "snapshot"};
  }
  const Status prepared = Prepare();
  if (!prepared) return prepared;
  for (size_t i = 0; i < memories_.size(); i++) {
    const Status followed = memories_[i].tracker->Follow(live[i]);
    if (!followed) return followed;
  }
  return Done{};
}

Result<Snapshot::Restored> Snapshot::Restore(const std::vector<Range>& live) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Status followed = Follow(live);
  if (!followed) return followed.Error();
  for (size_t i = 0; i < memories_.size(); i++) {
    RangeSet emptied;
    const Status empty = LostPages::Get().Empty(live[i], &emptied);
    for (const Range& pages : emptied.Ranges()) memories_[i].tracker->MarkDirty(pages);
    if (!empty) return empty.Error();
  }
  Restored total;
  for (size_t i = 0; i < memories_.size(); i++) {
    const Memory& memory = memories_[i];
    RangeSet written;
    const Status peeked = memory.tracker->Peek(&written);
    if (!peeked) return peeked.Error();
    written.ForEachPage(PageSize(), [&](Range page) {
      const uint64_t bytes = PutBack(memory, live[i], page);
      total.pages += bytes > 0 ? 1 : 0;
      total.bytes += bytes;
    });
    UFFD_BARRIER("put back", nullptr);
    // Peek left the pages unarmed, so putting them back cost no faults. Re-arm first, compare
    // after: whoever writes from here on is seen, whoever wrote before differs.
    RangeSet rearmed;
    const Status collected = memory.tracker->Collect(&rearmed);
    if (!collected) return collected.Error();
    rearmed.ForEachPage(PageSize(), [&](Range page) {
      if (!Differs(memory, live[i], page)) return;
      total.different++;
      memory.tracker->MarkDirty(page);
    });
  }
  return total;
}

Result<std::vector<RangeSet>> Snapshot::Written(const std::vector<Range>& live) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Status followed = Follow(live);
  if (!followed) return followed.Error();
  std::vector<RangeSet> written(memories_.size());
  for (size_t i = 0; i < memories_.size(); i++) {
    if (!memories_[i].tracked_by_writes) return Failure{ENOTSUP, "snapshot"};
    const Status peeked = memories_[i].tracker->Peek(&written[i]);
    if (!peeked) return peeked.Error();
  }
  return written;
}

Result<std::vector<RangeSet>> Snapshot::Diff(const std::vector<Range>& live) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Status followed = Follow(live);
  if (!followed) return followed.Error();
  for (const Range& bytes : live) {
    const Status readable = LostPages::Get().Check(bytes);
    if (!readable) return readable.Error();
  }
  std::vector<RangeSet> different(memories_.size());
  for (size_t i = 0; i < memories_.size(); i++) {
    RangeSet written;
    const Status peeked = memories_[i].tracker->Peek(&written);
    if (!peeked) return peeked.Error();
    written.ForEachPage(PageSize(), [&](Range page) {
      if (Differs(memories_[i], live[i], page)) different[i].Add(page);
    });
  }
  return different;
}

// A page has up to two parts: one inside the snapshot, and one that came with growth and was zero.
bool Snapshot::Differs(const Memory& memory, Range live, Range page) noexcept {
  const uint64_t held = live.start + memory.taken.Length();
  const Range old = page.Intersect({live.start, held});
  const Range grown = page.Intersect({held, live.end});
  if (!old.Empty() &&
      std::memcmp(Pointer(old.start), memory.CopyAt(old.start - live.start), old.Length()) != 0) {
    return true;
  }
  return !grown.Empty() && !IsZero(Pointer(grown.start), grown.Length());
}

uint64_t Snapshot::PutBack(const Memory& memory, Range live, Range page) noexcept {
  const uint64_t held = live.start + memory.taken.Length();
  const Range old = page.Intersect({live.start, held});
  const Range grown = page.Intersect({held, live.end});
  uint64_t written = 0;
  // What is equal stays as it is: it may never have existed (discarded, or of zeros on both sides),
  // and writing would make it resident. Memory that came with growth the same.
  if (!old.Empty() &&
      std::memcmp(Pointer(old.start), memory.CopyAt(old.start - live.start), old.Length()) != 0) {
    std::memcpy(Pointer(old.start), memory.CopyAt(old.start - live.start), old.Length());
    written += old.Length();
  }
  if (!grown.Empty() && !IsZero(Pointer(grown.start), grown.Length())) {
    std::memset(Pointer(grown.start), 0, grown.Length());
    written += grown.Length();
  }
  return written;
}

Status Snapshot::Read(size_t memory, uint64_t offset, uint64_t length, uint8_t* to) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  Memory& wanted = memories_[memory];
  if (!settled_) {
    wanted.capture->CaptureNow(offset, length);
    capturing_->AwaitEvents();
  }
  const Status health = Health();
  if (!health) return health;
  std::memcpy(to, wanted.CopyAt(offset), length);
  return Done{};
}

}  // namespace uffd
