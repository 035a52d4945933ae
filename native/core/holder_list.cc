#include "core/holder_list.h"

#include <algorithm>
#include <iterator>

namespace uffd {

HolderList& HolderList::Get() noexcept {
  static auto* list = new HolderList();
  return *list;
}

std::shared_ptr<HolderList::Entry> HolderList::AddCaptures(
    std::vector<std::shared_ptr<Capture>> captures) {
  auto entry = std::make_shared<Entry>();
  for (const auto& capture : captures) entry->memories.push_back(capture->Pages());
  entry->captures = std::move(captures);
  const std::lock_guard<std::mutex> lock(mutex_);
  entries_.push_back(entry);
  return entry;
}

std::shared_ptr<HolderList::Entry> HolderList::AddLoad(std::vector<Range> memories) {
  auto entry = std::make_shared<Entry>();
  entry->memories = std::move(memories);
  const auto overlaps = [&entry](const auto& other) {
    return std::any_of(entry->memories.begin(), entry->memories.end(),
                       [&other](const Range& memory) { return Overlaps(*other, memory); });
  };
  std::unique_lock<std::mutex> lock(mutex_);
  AwaitNone(&lock, overlaps);
  entries_.push_back(entry);
  return entry;
}

void HolderList::Remove(Entry* entry) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    entry->over = true;
    std::erase_if(entries_, [entry](const auto& each) { return each.get() == entry; });
  }
  removed_.notify_all();
}

bool HolderList::IsHurried(const Entry& entry) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return entry.hurry;
}

bool HolderList::Overlaps(const Entry& entry, Range range) noexcept {
  return std::any_of(entry.memories.begin(), entry.memories.end(),
                     [range](const Range& memory) { return memory.Overlaps(range); });
}

void HolderList::BeforeDiscard(Range range) noexcept {
  std::vector<std::shared_ptr<Entry>> overlapping;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::copy_if(entries_.begin(), entries_.end(), std::back_inserter(overlapping),
                 [range](const auto& entry) { return Overlaps(*entry, range); });
  }
  for (const auto& entry : overlapping) {
    for (const auto& capture : entry->captures) capture->BeforeDiscard(range);
  }
}

void HolderList::BeginEnding(Entry* entry) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  entry->ending = std::this_thread::get_id();
}

template <typename Holds>
void HolderList::FinishWhere(Holds holds) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  AwaitNone(&lock, holds);
}

template <typename Holds>
void HolderList::AwaitNone(std::unique_lock<std::mutex>* lock, Holds holds) noexcept {
  for (;;) {
    const auto found = std::find_if(entries_.begin(), entries_.end(), holds);
    if (found == entries_.end()) return;
    const std::shared_ptr<Entry> entry = *found;
    entry->hurry = true;
    removed_.wait(*lock, [&] { return entry->over; });
  }
}

void HolderList::Finish(Range range) noexcept {
  FinishWhere([range, self = std::this_thread::get_id()](const auto& entry) {
    return entry->ending != self && Overlaps(*entry, range);
  });
}

void HolderList::FinishLoads(Range range) noexcept {
  FinishWhere(
      [range](const auto& entry) { return entry->captures.empty() && Overlaps(*entry, range); });
}

}  // namespace uffd
