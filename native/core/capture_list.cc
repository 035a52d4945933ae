#include "core/capture_list.h"

#include <algorithm>
#include <iterator>

namespace uffd {

CaptureList& CaptureList::Get() noexcept {
  static auto* list = new CaptureList();
  return *list;
}

std::shared_ptr<CaptureList::Entry> CaptureList::Add(
    std::vector<std::shared_ptr<Capture>> captures) {
  auto entry = std::make_shared<Entry>();
  entry->captures = std::move(captures);
  const std::lock_guard<std::mutex> lock(mutex_);
  entries_.push_back(entry);
  return entry;
}

void CaptureList::Remove(Entry* entry) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    entry->over = true;
    std::erase_if(entries_, [entry](const auto& each) { return each.get() == entry; });
  }
  removed_.notify_all();
}

bool CaptureList::IsHurried(const Entry& entry) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return entry.hurry;
}

bool CaptureList::Overlaps(const Entry& entry, Range range) noexcept {
  return std::any_of(entry.captures.begin(), entry.captures.end(),
                     [range](const auto& each) { return each->Pages().Overlaps(range); });
}

void CaptureList::BeforeDiscard(Range range) noexcept {
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

void CaptureList::BeginEnding(Entry* entry) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  entry->ending = std::this_thread::get_id();
}

void CaptureList::Finish(Range range) noexcept {
  const std::thread::id self = std::this_thread::get_id();
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    const auto found =
        std::find_if(entries_.begin(), entries_.end(), [range, self](const auto& entry) {
          return entry->ending != self && Overlaps(*entry, range);
        });
    if (found == entries_.end()) return;
    const std::shared_ptr<Entry> entry = *found;
    entry->hurry = true;
    removed_.wait(lock, [&] { return entry->over; });
  }
}

}  // namespace uffd
