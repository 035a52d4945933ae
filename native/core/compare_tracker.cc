#include "core/compare_tracker.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/compare.h"
#include "core/lost_pages.h"

namespace uffd {
namespace {

uint8_t* Pointer(uint64_t address) noexcept { return reinterpret_cast<uint8_t*>(address); }

// Address space for twice the memory: it costs nothing, and memory that grows step by step is then
// followed without copying the copy at each step.
Result<std::shared_ptr<Mapping>> MapCopy(uint64_t bytes) noexcept {
  const uint64_t least = std::max(bytes, PageSize());
  Result<std::shared_ptr<Mapping>> copy = Mapping::Anonymous(2 * least);
  if (!copy) copy = Mapping::Anonymous(least);
  if (!copy) return copy;
  // One page kept must not cost a huge one. EINVAL: this kernel has none.
  static_cast<void>(madvise(copy.Value()->Data(), copy.Value()->Bytes(), MADV_NOHUGEPAGE));
  return copy;
}

}  // namespace

Result<std::unique_ptr<DirtyTracker>> CompareTracker::Create(Range bytes, uint64_t page_size,
                                                             bool has_aliases) noexcept {
  Result<std::shared_ptr<Mapping>> copy = MapCopy(bytes.RoundOutward(page_size).Length());
  if (!copy) return copy.Error();
  std::unique_ptr<DirtyTracker> tracker(
      new CompareTracker(std::move(copy.Value()), bytes, page_size, true, has_aliases));
  RangeSet unlike_zero;
  const Status taken = tracker->Collect(&unlike_zero);
  if (!taken) return taken.Error();
  return tracker;
}

std::unique_ptr<DirtyTracker> CompareTracker::Against(std::shared_ptr<Mapping> copy,
                                                      Range bytes) noexcept {
  return std::unique_ptr<DirtyTracker>(
      new CompareTracker(std::move(copy), bytes, PageSize(), false, false));
}

CompareTracker::CompareTracker(std::shared_ptr<Mapping> copy, Range bytes, uint64_t page_size,
                               bool owns_copy, bool has_aliases) noexcept
    : copy_(std::move(copy)),
      bytes_(bytes),
      page_size_(page_size),
      lead_(bytes.start % page_size),
      owns_copy_(owns_copy),
      has_aliases_(has_aliases),
      live_(PopulatedPages::Of(Pages(), page_size, has_aliases)),
      copied_(PopulatedPages::OfPrivateMemory()) {}

Status CompareTracker::Collect(RangeSet* dirty) noexcept {
  RangeSet zeroed;
  Status looked = ForEachDifferent(Pages(), [&](Range page) {
    // Keeping it after it was found to differ: what is written in between is kept with it and
    // reported now, what is written later differs at the next look (test 54, B8).
    if (owns_copy_) Keep(page.Intersect(bytes_), &zeroed);
    dirty->Add(page.RoundOutward(page_size_));
    return true;
  });
  if (!looked) return looked;
  for (const Range& range : zeroed.Ranges()) {
    const Status freed = Discard(range);
    if (!freed) std::memset(Pointer(range.start), 0, range.Length());
  }
  dirty->AddAll(pending_);
  pending_.Clear();
  return Done{};
}

Status CompareTracker::Peek(RangeSet* dirty) noexcept {
  Status looked = ForEachDifferent(Pages(), [&](Range page) {
    dirty->Add(page.RoundOutward(page_size_));
    return true;
  });
  if (looked) dirty->AddAll(pending_);
  return looked;
}

Result<bool> CompareTracker::Settle(Range pages) noexcept {
  bool written = false;
  RangeSet zeroed;
  const Status looked = ForEachDifferent(pages, [&](Range page) {
    written = true;
    if (owns_copy_) Keep(page.Intersect(bytes_), &zeroed);
    return true;
  });
  if (!looked) return looked.Error();
  for (const Range& range : zeroed.Ranges()) {
    std::memset(Pointer(range.start), 0, range.Length());
  }
  if (!pending_.Empty()) pending_.Remove(pages);
  return written;
}

Result<bool> CompareTracker::AnyWritten() noexcept {
  bool any = !pending_.Empty();
  if (any) return true;
  const Status looked = ForEachDifferent(Pages(), [&any](Range /*page*/) {
    any = true;
    return false;
  });
  if (!looked) return looked.Error();
  return any;
}

void CompareTracker::MarkDirty(Range pages) noexcept { pending_.Add(pages.Intersect(Pages())); }

Status CompareTracker::Follow(Range bytes) noexcept {
  if (bytes.start == bytes_.start && bytes.end == bytes_.end) return Done{};
  const uint64_t lead = bytes.start % page_size_;
  if (!owns_copy_) {
    if (lead != lead_) return Failure{EINVAL, "compare"};
    LookAgainAt(bytes);
    return Done{};
  }
  const Range before = Pages();
  const Range now = bytes.RoundOutward(page_size_);
  const bool moved = bytes.start != bytes_.start;
  if (moved || now.Length() > copy_->Bytes()) {
    const Status roomy = MakeRoom(now.Length(), !moved);
    if (!roomy) return roomy;
  }
  if (moved) {
    pending_.Clear();
    pending_.Add(now);
    lead_ = lead;
  } else if (now.end > before.end) {
    pending_.Add({before.end, now.end});
  } else {
    pending_ = pending_.Within(now);
    const Range gone{CopyOf(now.end), CopyOf(before.end)};
    if (!gone.Empty()) static_cast<void>(Discard(gone).Ok());
  }
  LookAgainAt(bytes);
  return Done{};
}

void CompareTracker::LookAgainAt(Range bytes) noexcept {
  bytes_ = bytes;
  live_ = PopulatedPages::Of(Pages(), page_size_, has_aliases_);
}

// Another copy, with room for `bytes`; it holds what this one does, or zeros.
Status CompareTracker::MakeRoom(uint64_t bytes, bool keep) noexcept {
  Result<std::shared_ptr<Mapping>> larger = MapCopy(bytes);
  if (!larger) return larger.Error();
  for (uint64_t at = 0; keep && at < copy_->Bytes(); at += PageSize()) {
    const uint8_t* page = copy_->Data() + at;
    if (!IsZero(page, PageSize())) std::memcpy(larger.Value()->Data() + at, page, PageSize());
  }
  copy_ = std::move(larger.Value());
  return Done{};
}

uint64_t CompareTracker::CopyOf(uint64_t address) const noexcept {
  return copy_->AddressRange().start + lead_ + (address - bytes_.start);
}

// `visit` tells whether to go on.
template <typename Visit>
Status CompareTracker::ForEachDifferent(Range pages, Visit visit) noexcept {
  constexpr size_t kBatch = PopulatedPages::kBatch;
  Status readable = LostPages::Get().Check(pages.Intersect(bytes_));
  if (!readable) return readable;
  const Range copy = copy_->AddressRange();
  for (uint64_t start = pages.start; start < pages.end; start += kBatch * PageSize()) {
    const size_t count = std::min<uint64_t>(kBatch, (pages.end - start) / PageSize());
    live_.Load(start, count);
    const Range copies = Range{CopyOf(start), CopyOf(start) + count * PageSize()}.Intersect(copy);
    copied_.Load(copies.start, copies.Length() / PageSize());
    for (size_t i = 0; i < count; i++) {
      const Range page{start + i * PageSize(), start + (i + 1) * PageSize()};
      const Range part = page.Intersect(bytes_);
      const bool copy_exists = i < copies.Length() / PageSize() && copied_.Has(i);
      if (!part.Empty() && Differs(part, live_.Has(i), copy_exists) && !visit(page)) return Done{};
    }
  }
  return Done{};
}

bool CompareTracker::Differs(Range part, bool exists, bool copy_exists) const noexcept {
  if (exists && copy_exists) {
    return std::memcmp(Pointer(part.start), Pointer(CopyOf(part.start)), part.Length()) != 0;
  }
  if (exists) return !IsZero(Pointer(part.start), part.Length());
  return copy_exists && !IsZero(Pointer(CopyOf(part.start)), part.Length());
}

// Pages of the copy that become zero are gathered: giving them back is one call for many.
void CompareTracker::Keep(Range part, RangeSet* zeroed) noexcept {
  const Range copy{CopyOf(part.start), CopyOf(part.end)};
  if (!IsZero(Pointer(part.start), part.Length())) {
    std::memcpy(Pointer(copy.start), Pointer(part.start), part.Length());
  } else if (part.Length() == PageSize()) {
    zeroed->Add(copy);
  } else {
    std::memset(Pointer(copy.start), 0, part.Length());
  }
}

}  // namespace uffd
