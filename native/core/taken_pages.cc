#include "core/taken_pages.h"

#include <algorithm>

namespace uffd {

bool TakenPages::Put(RangeSet* pages) noexcept {
  const size_t ranges = pages->Ranges().size();
  if (count_ == kMostSets || ranges_ + ranges > kMostRanges) return false;
  ranges_ += ranges;
  sets_[count_].AddAll(*pages);
  next_[count_] = count_ + 1;
  count_++;
  for (const size_t group : kGroups) {
    if (count_ % group == 0) JoinLast(group);
  }
  const Range around{pages->Ranges().front().start, pages->Ranges().back().end};
  hull_ = count_ == 1 ? around
                      : Range{std::min(hull_.start, around.start), std::max(hull_.end, around.end)};
  return true;
}

void TakenPages::Read(Position* since, Range bounds, RangeSet* pages) noexcept {
  const Position from = std::max(*since, first_);
  *since = End();
  for (size_t i = from - first_; i < count_; i = next_[i]) pages->AddWithin(bounds, &sets_[i]);
}

void TakenPages::JoinLast(size_t group) noexcept {
  for (size_t i = count_; i-- > count_ - group;) {
    if (next_[i] == count_) continue;
    sets_[i].AddAll(sets_[next_[i]]);
    next_[i] = count_;
  }
}

void TakenPages::Clear() noexcept {
  for (size_t i = 0; i < count_; i++) {
    sets_[i].Clear();
    if (sets_[i].Room() > kKeptRoom) sets_[i] = RangeSet();
  }
  first_ += count_;
  count_ = 0;
  ranges_ = 0;
}

}  // namespace uffd
