#include "core/written_pages.h"

#include <algorithm>
#include <utility>

namespace uffd {
namespace {

uint64_t WordsFor(uint64_t pages) noexcept { return (pages + 63) / 64; }

}  // namespace

Result<std::shared_ptr<WrittenPages>> WrittenPages::Create(Range pages,
                                                           uint64_t page_size) noexcept {
  const uint64_t bits = WordsFor(pages.Length() / page_size) * sizeof(uint64_t);
  const Range room = Range{0, bits + kLogged * sizeof(Write)}.RoundOutward(PageSize());
  Result<std::shared_ptr<Mapping>> memory = Mapping::Anonymous(room.Length());
  if (!memory) return memory.Error();
  return std::shared_ptr<WrittenPages>(
      new WrittenPages(pages, page_size, std::move(memory.Value())));
}

WrittenPages::WrittenPages(Range pages, uint64_t page_size,
                           std::shared_ptr<Mapping> memory) noexcept
    : pages_(pages),
      page_size_(page_size),
      memory_(std::move(memory)),
      bits_(reinterpret_cast<uint64_t*>(memory_->Data())),
      log_(reinterpret_cast<Write*>(bits_ + WordsFor(pages.Length() / page_size))) {}

void WrittenPages::Set(const Event& fault) noexcept {
  const size_t page = PageAt(fault.address);
  if (IsSet(page)) return;
  bits_[page / 64] |= uint64_t{1} << (page % 64);
  if (logged_ < kLogged) {
    log_[logged_++] = {fault.address, fault.thread_id};
  } else {
    missed_++;
  }
}

void WrittenPages::NoteAll(Range pages) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const size_t end = PageAt(pages.end);
  for (size_t page = PageAt(pages.start); page < end; page++) {
    bits_[page / 64] |= uint64_t{1} << (page % 64);
  }
}

void WrittenPages::Look(Range pages, RangeSet* written) noexcept {
  for (Slice slice = SliceAt(pages.start, pages); slice.count > 0; slice = Next(slice, pages)) {
    Taken noted;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      noted = Noted(slice);
    }
    ForEachRun(noted, slice, [written](Range run) { written->Add(run); });
  }
}

void WrittenPages::TakeWrites(Range pages, WriteLog* log) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto is_taken = [&](const Write& write) {
    return pages.Contains({write.address, write.address + 1}) && !IsSet(PageAt(write.address));
  };
  Write* const end = log_ + logged_;
  std::for_each(log_, end, [&](const Write& write) {
    if (is_taken(write)) log->Add(write);
  });
  logged_ = static_cast<size_t>(std::remove_if(log_, end, is_taken) - log_);
  log->AddMissed(std::exchange(missed_, 0));
}

WrittenPages::Slice WrittenPages::SliceAt(uint64_t address, Range pages) const noexcept {
  if (address >= pages.end) return {};
  const size_t first = PageAt(address);
  const size_t end = std::min((first / 64 + kWords) * 64, PageAt(pages.end));
  return {first, end - first};
}

WrittenPages::Slice WrittenPages::Next(Slice slice, Range pages) const noexcept {
  return SliceAt(RangeOf(slice.first, slice.first + slice.count).end, pages);
}

// The words that hold the slice, without the bits of pages beside it.
WrittenPages::Taken WrittenPages::Noted(Slice slice) const noexcept {
  Taken noted{};
  const size_t end = slice.first + slice.count;
  const size_t first_word = slice.first / 64;
  for (size_t word = first_word; word * 64 < end; word++) {
    uint64_t mask = ~uint64_t{0};
    if (word == first_word) mask &= mask << (slice.first % 64);
    if (end - word * 64 < 64) mask &= (uint64_t{1} << (end - word * 64)) - 1;
    noted[word - first_word] = bits_[word] & mask;
  }
  return noted;
}

WrittenPages::Taken WrittenPages::TakeSlice(Slice slice) noexcept {
  const Taken noted = Noted(slice);
  for (size_t i = 0; i < kWords; i++) {
    if (noted[i] != 0) bits_[slice.first / 64 + i] &= ~noted[i];
  }
  return noted;
}

}  // namespace uffd
