#include "core/slot_store.h"

#include <algorithm>
#include <bit>
#include <cerrno>

namespace uffd {

Result<uint32_t> SlotStore::Take() noexcept {
  const bool warm = warm_ > 0;
  size_t& first = warm ? first_warm_ : first_free_;
  while (first < extents_.size() && (warm ? extents_[first].warm : extents_[first].free) == 0) {
    first++;
  }
  if (first == extents_.size()) {
    const Status added = AddExtent();
    if (!added) return added.Error();
  }
  Extent& extent = extents_[first];
  while (~extent.used[extent.first] == 0) extent.first++;
  uint32_t word = extent.first;
  const auto candidates = [&] {
    return ~extent.used[word] & (warm ? extent.backed[word] : ~uint64_t{0});
  };
  while (candidates() == 0) word++;
  const auto bit = static_cast<uint32_t>(std::countr_zero(candidates()));
  const uint64_t mask = uint64_t{1} << bit;
  if ((extent.backed[word] & mask) != 0) {
    extent.warm--;
    warm_--;
  }
  extent.used[word] |= mask;
  extent.backed[word] |= mask;
  extent.free--;
  used_++;
  const uint32_t index = word * kBits + bit;
  extent.holders[index] = 1;
  return static_cast<uint32_t>(first) * kPerExtent + index;
}

bool SlotStore::Release(uint32_t slot) noexcept {
  Extent& extent = extents_[slot / kPerExtent];
  const uint32_t index = slot % kPerExtent;
  if (--extent.holders[index] > 0) return false;
  extent.used[index / kBits] &= ~(uint64_t{1} << index % kBits);
  extent.first = std::min(extent.first, index / kBits);
  extent.free++;
  extent.warm++;
  used_--;
  warm_++;
  first_free_ = std::min<size_t>(first_free_, slot / kPerExtent);
  first_warm_ = std::min<size_t>(first_warm_, slot / kPerExtent);
  return true;
}

Status SlotStore::Reserve(uint64_t count) noexcept {
  // But for kNone.
  while (extents_.empty() || extents_.size() * kPerExtent - 1 - used_ < count) {
    const Status added = AddExtent();
    if (!added) return added;
  }
  return Done{};
}

Status SlotStore::AddExtent() noexcept {
  if (extents_.size() >= UINT32_MAX / kPerExtent) return Failure{ENOMEM, "mmap"};
  const uint64_t data_bytes = kPerExtent * slot_bytes_;
  MappingRequest request;
  request.bytes = Range{0, data_bytes + kCountBytes}.RoundOutward(PageSize()).end;
  request.page_size = PageSize();
  request.advice = advice_;
  Result<std::shared_ptr<Mapping>> mapping = Mapping::Create(request);
  if (!mapping) return mapping.Error();
  Extent extent{};
  extent.data = mapping.Value()->Data();
  extent.used = reinterpret_cast<uint64_t*>(extent.data + data_bytes);
  extent.backed = extent.used + kWords;
  extent.holders = reinterpret_cast<uint32_t*>(extent.backed + kWords);
  extent.free = kPerExtent;
  if (extents_.empty()) {
    // kNone.
    extent.used[0] = 1;
    extent.free--;
  }
  extent.mapping = std::move(mapping.Value());
  extents_.push_back(std::move(extent));
  return Done{};
}

void SlotStore::GiveBack(uint64_t keep) noexcept {
  // Looking through all bitmaps is paid for by the slots freed since.
  if (warm_ <= std::max(2 * keep, give_back_above_)) return;
  for (size_t i = extents_.size(); i-- > 0 && warm_ > keep;) {
    if (extents_[i].warm > 0) GiveBack(&extents_[i]);
  }
  // What is left shares its pages with slots that are held.
  give_back_above_ = 2 * warm_;
}

void SlotStore::GiveBack(Extent* extent) noexcept {
  const auto free = [&](uint32_t index) {
    const uint64_t mask = uint64_t{1} << index % kBits;
    return ((~extent->used[index / kBits] & extent->backed[index / kBits]) & mask) != 0;
  };
  for (uint32_t index = 0; index < kPerExtent; index++) {
    if (!free(index)) continue;
    const uint32_t first = index;
    while (index < kPerExtent && free(index)) index++;
    GiveBackRun(extent, first, index);
  }
}

std::vector<SlotStore::Cold> SlotStore::ColdFor(uint64_t count) noexcept {
  std::vector<Cold> found;
  uint64_t missing = count > warm_ ? count - warm_ : 0;
  for (size_t i = first_free_; missing > 0; i++) {
    if (i == extents_.size() && !AddExtent()) break;
    const auto extent = static_cast<uint32_t>(i);
    for (uint32_t from = 0; from < kPerExtent && missing > 0;) {
      Cold slots = NextCold(extent, from, std::min(missing, kColdPages * PageSize() / slot_bytes_));
      from = slots.first % kPerExtent + slots.count;
      if (slots.count == 0) break;
      missing -= slots.count;
      found.push_back(std::move(slots));
    }
  }
  return found;
}

SlotStore::Cold SlotStore::NextCold(uint32_t extent, uint32_t from, uint64_t most) const noexcept {
  const Extent& in = extents_[extent];
  const auto is_cold = [&](uint32_t index) {
    const uint64_t taken = in.used[index / kBits] | in.backed[index / kBits];
    return (taken >> index % kBits & 1) == 0;
  };
  while (from < kPerExtent && !is_cold(from)) from++;
  uint32_t end = from;
  while (end < kPerExtent && end - from < most && is_cold(end)) end++;
  const auto start = reinterpret_cast<uint64_t>(in.data);
  const Range bytes{start + from * slot_bytes_, start + end * slot_bytes_};
  const uint64_t behind = start + kPerExtent * slot_bytes_;
  const Range counts{behind, behind + kCountBytes};
  return {in.mapping, bytes.RoundOutward(PageSize()), counts.RoundOutward(PageSize()),
          extent * kPerExtent + from, end - from};
}

void SlotStore::NoteWarm(const Cold& slots) noexcept {
  const uint32_t number = slots.first / kPerExtent;
  Extent& extent = extents_[number];
  const uint32_t first = slots.first % kPerExtent;
  for (uint32_t index = first; index < first + slots.count; index++) {
    const uint64_t mask = uint64_t{1} << index % kBits;
    uint64_t& backed = extent.backed[index / kBits];
    if ((backed & mask) != 0) continue;
    backed |= mask;
    extent.warm++;
    warm_++;
  }
  first_warm_ = std::min<size_t>(first_warm_, number);
}

void SlotStore::GiveBackRun(Extent* extent, uint32_t first, uint32_t end) noexcept {
  const uint64_t page = PageSize();
  const auto start = reinterpret_cast<uint64_t>(extent->data);
  const uint64_t from = (start + first * slot_bytes_ + page - 1) & ~(page - 1);
  const uint64_t to = (start + end * slot_bytes_) & ~(page - 1);
  if (from >= to || !Discard({from, to})) return;
  const auto begin = static_cast<uint32_t>((from - start + slot_bytes_ - 1) / slot_bytes_);
  const auto gone = static_cast<uint32_t>((to - start) / slot_bytes_);
  for (uint32_t index = begin; index < gone; index++) {
    extent->backed[index / kBits] &= ~(uint64_t{1} << index % kBits);
  }
  extent->warm -= gone - begin;
  warm_ -= gone - begin;
}

}  // namespace uffd
