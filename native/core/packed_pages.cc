#include "core/packed_pages.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "core/mapping.h"

namespace uffd {
namespace {

constexpr uint64_t kBase = 128;

inline char* Put(uint64_t number, char* to) noexcept {
  for (; number >= kBase; number /= kBase) *to++ = static_cast<char>(number % kBase + kBase);
  *to++ = static_cast<char>(number);
  return to;
}

// `between`: pages from the range before it.
inline char* PutRange(uint64_t between, uint64_t pages, char* to) noexcept {
  if (pages == 1) return Put(2 * between, to);
  return Put(pages, Put(2 * between + 1, to));
}

size_t Digits(uint64_t number) noexcept {
  size_t digits = 1;
  while ((number /= kBase) > 0) digits++;
  return digits;
}

}  // namespace

void PackedPages::Begin(Range memory, uint64_t page_size) {
  const uint64_t lead = memory.start % page_size;
  whole_ = memory.RoundOutward(page_size);
  // No byte lies in a page, wherever there are none.
  if (memory.Empty()) whole_.end = whole_.start;
  done_ = whole_.start;
  last_ = {whole_.start, whole_.start};
  if (room_ > kKeptRoom && needed_ <= kKeptRoom) room_ = 0;
  needed_ = 0;
  size_ = 0;
  longest_ = 2 * Digits(2 * (whole_.Length() / PageSize()));
  MakeRoom(Digits(lead) + longest_);
  size_ = static_cast<size_t>(Put(lead, bytes_.get()) - bytes_.get());
}

void PackedPages::Add(RangeSet* pages) {
  const std::vector<Range>& ranges = pages->Ranges();
  AddEach(ranges.data(), ranges.size());
}

void PackedPages::AddFound(const page_region* found, size_t count) { AddEach(found, count); }

std::string_view PackedPages::End() {
  if (!last_.Empty()) {
    const int shift = std::countr_zero(PageSize());
    char* const to =
        PutRange((last_.start - done_) >> shift, last_.Length() >> shift, bytes_.get() + size_);
    size_ = static_cast<size_t>(to - bytes_.get());
    last_ = {};
  }
  return {bytes_.get(), size_};
}

template <typename Each>
void PackedPages::AddEach(const Each* ranges, size_t count) {
  const uint64_t unit = PageSize();
  const int shift = std::countr_zero(unit);
  // And for the last, which End puts down.
  MakeRoom((count + 1) * longest_);
  char* to = bytes_.get() + size_;
  uint64_t done = done_;
  Range last = last_;
  for (size_t i = 0; i < count; i++) {
    // A part of a page stands for the whole one.
    const Range rounded = Range{ranges[i].start, ranges[i].end}.RoundOutward(unit);
    const uint64_t start = std::max(rounded.start, whole_.start);
    const uint64_t end = std::min(rounded.end, whole_.end);
    if (end <= start) continue;
    if (start <= last.end) {
      last.end = std::max(last.end, end);
      continue;
    }
    if (!last.Empty()) to = PutRange((last.start - done) >> shift, last.Length() >> shift, to);
    done = last.end;
    last = {start, end};
  }
  size_ = static_cast<size_t>(to - bytes_.get());
  done_ = done;
  last_ = last;
}

void PackedPages::MakeRoom(size_t bytes) {
  needed_ = std::max(needed_, size_ + bytes);
  if (needed_ <= room_) return;
  const size_t room = std::max(needed_, 2 * room_);
  auto larger = std::make_unique_for_overwrite<char[]>(room);
  std::copy_n(bytes_.get(), size_, larger.get());
  bytes_ = std::move(larger);
  room_ = room;
}

}  // namespace uffd
