// Half-open byte ranges of the address space, and sorted sets of them.
#ifndef UFFD_CORE_RANGE_H_
#define UFFD_CORE_RANGE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace uffd {

struct Range {
  uint64_t start = 0;
  uint64_t end = 0;

  uint64_t Length() const noexcept { return end - start; }
  bool Empty() const noexcept { return end <= start; }
  bool Contains(const Range& other) const noexcept {
    return start <= other.start && other.end <= end;
  }
  bool Overlaps(const Range& other) const noexcept {
    return start < other.end && other.start < end;
  }
  Range Intersect(const Range& other) const noexcept {
    Range both{start > other.start ? start : other.start, end < other.end ? end : other.end};
    return both.Empty() ? Range{} : both;
  }
  // The smallest range of whole pages that covers this one.
  Range RoundOutward(uint64_t page_size) const noexcept {
    return {start & ~(page_size - 1), (end + page_size - 1) & ~(page_size - 1)};
  }
};

// Sorted, disjoint and merged. Adding in address order costs O(1); anything else is put in order by
// the next read.
class RangeSet {
 public:
  void Add(Range range);
  void AddAll(const RangeSet& other);
  // Takes over what `other` has, if this has nothing (test 92).
  void AddAll(RangeSet&& other);
  // So many ranges that lie in address order, `range(i)` each.
  template <typename RangeAt>
  void AddInOrder(size_t count, RangeAt range) {
    if (count == 0) return;
    Add(range(0));
    if (count == 1) return;
    // Room is made at once: a set that grows as it is filled is moved again and again (test 92).
    // And more than is needed, for the next call.
    const size_t needed = ranges_.size() - 1 + count;
    if (needed > ranges_.capacity()) {
      ranges_.reserve(std::max(needed, 2 * ranges_.capacity()));
    }
    Range last = ranges_.back();
    ranges_.pop_back();
    // Moved there some at a time: resize() would write all of it once more, as zeros.
    constexpr size_t kAtOnce = 64;
    Range merged[kAtOnce];
    size_t used = 0;
    for (size_t i = 1; i < count; i++) {
      const Range next = range(i);
      if (next.start <= last.end) {
        if (next.end > last.end) last.end = next.end;
        continue;
      }
      merged[used++] = last;
      last = next;
      if (used < kAtOnce) continue;
      ranges_.insert(ranges_.end(), merged, merged + used);
      used = 0;
    }
    ranges_.insert(ranges_.end(), merged, merged + used);
    ranges_.push_back(last);
  }
  void Remove(Range range);
  void RemoveAll(RangeSet* other);
  // Keeps its room.
  void Clear() noexcept;
  // How many ranges it holds without an allocation.
  size_t Room() const noexcept { return ranges_.capacity(); }
  const std::vector<Range>& Ranges();
  RangeSet Within(Range bounds);
  // Those of `other` that lie in `bounds`; allocates nothing when there is room (test 92).
  void AddWithin(Range bounds, RangeSet* other);
  bool Empty() const noexcept { return ranges_.empty(); }
  uint64_t Bytes();
  // `visit` gets each page, ascending.
  template <typename Visit>
  void ForEachPage(uint64_t page_size, Visit visit) {
    for (const Range& range : Ranges()) {
      for (uint64_t page = range.start; page < range.end; page += page_size) {
        visit(Range{page, page + page_size});
      }
    }
  }
  // Whether `matches` holds for any of the ranges as they were added. Puts nothing in order, so it
  // writes no memory.
  template <typename Matches>
  bool Any(Matches matches) const noexcept {
    return std::any_of(ranges_.begin(), ranges_.end(), matches);
  }

 private:
  void Normalize();

  static constexpr size_t kSmall = 64;

  std::vector<Range> ranges_;
  bool normal_ = true;
  size_t normalize_at_ = kSmall;  // the size at which an unordered set is put in order
};

}  // namespace uffd

#endif  // UFFD_CORE_RANGE_H_
