#include "core/range.h"

#include <algorithm>
#include <utility>

namespace uffd {

void RangeSet::Add(Range range) {
  if (range.Empty()) return;
  // What is added again and again without being read must not pile up.
  if (!normal_ && ranges_.size() >= normalize_at_) Normalize();
  if (!ranges_.empty()) {
    Range& last = ranges_.back();
    if (range.start < last.start) {
      normal_ = false;
    } else if (range.start <= last.end) {
      if (last.end < range.end) last.end = range.end;
      return;
    }
  }
  ranges_.push_back(range);
}

void RangeSet::AddAll(const RangeSet& other) {
  if (ranges_.empty()) {
    *this = other;
    return;
  }
  for (const Range& range : other.ranges_) Add(range);
}

void RangeSet::AddAll(RangeSet&& other) {
  if (ranges_.empty()) {
    std::swap(*this, other);
  } else {
    AddAll(other);
  }
}

void RangeSet::Remove(Range range) {
  if (range.Empty()) return;
  Normalize();
  std::vector<Range> kept;
  kept.reserve(ranges_.size() + 1);
  for (const Range& each : ranges_) {
    if (!each.Overlaps(range)) {
      kept.push_back(each);
      continue;
    }
    if (each.start < range.start) kept.push_back({each.start, range.start});
    if (range.end < each.end) kept.push_back({range.end, each.end});
  }
  ranges_ = std::move(kept);
}

void RangeSet::RemoveAll(RangeSet* other) {
  if (Empty() || other->Empty()) return;
  const std::vector<Range>& holes = other->Ranges();
  std::vector<Range> kept;
  auto first = holes.begin();
  for (Range rest : Ranges()) {
    while (first != holes.end() && first->end <= rest.start) ++first;
    for (auto hole = first; hole != holes.end() && hole->start < rest.end; ++hole) {
      if (rest.start < hole->start) kept.push_back({rest.start, hole->start});
      rest.start = hole->end;
    }
    if (!rest.Empty()) kept.push_back(rest);
  }
  ranges_ = std::move(kept);
}

void RangeSet::Clear() noexcept {
  ranges_.clear();
  normal_ = true;
}

const std::vector<Range>& RangeSet::Ranges() {
  Normalize();
  return ranges_;
}

RangeSet RangeSet::Within(Range bounds) {
  RangeSet clipped;
  clipped.AddWithin(bounds, this);
  return clipped;
}

void RangeSet::AddWithin(Range bounds, RangeSet* other) {
  const std::vector<Range>& ranges = other->Ranges();
  auto range = std::partition_point(ranges.begin(), ranges.end(),
                                    [&](const Range& each) { return each.end <= bounds.start; });
  for (; range != ranges.end() && range->start < bounds.end; ++range) {
    Add(range->Intersect(bounds));
  }
}

uint64_t RangeSet::Bytes() {
  Normalize();
  uint64_t bytes = 0;
  for (const Range& range : ranges_) bytes += range.Length();
  return bytes;
}

void RangeSet::Normalize() {
  if (normal_) return;
  normal_ = true;
  std::sort(ranges_.begin(), ranges_.end(),
            [](const Range& a, const Range& b) { return a.start < b.start; });
  size_t out = 0;
  for (size_t i = 1; i < ranges_.size(); i++) {
    if (ranges_[i].start <= ranges_[out].end) {
      ranges_[out].end = std::max(ranges_[out].end, ranges_[i].end);
    } else {
      ranges_[++out] = ranges_[i];
    }
  }
  ranges_.resize(out + 1);
  normalize_at_ = 2 * ranges_.size() + kSmall;
}

}  // namespace uffd
