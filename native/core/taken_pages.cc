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
  if (count_ % kGroup == 0) JoinGroup();
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

void TakenPages::JoinGroup() noexcept {
  for (size_t i = count_ - 1; i-- > count_ - kGroup;) {
    sets_[i].AddAll(sets_[i + 1]);
    next_[i] = count_;
  }
}

void TakenPages::Note(Position since, Readers* readers) const noexcept {
  if (since < End()) readers->set(std::max(since, first_) - first_);
}

void TakenPages::Join(const Readers& readers) noexcept {
  RangeSet all;
  for (size_t i = count_; i-- > 0;) {
    all.AddAll(sets_[i]);
    if (!readers.test(i)) continue;
    sets_[i].Clear();
    sets_[i].AddAll(all);
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
