#include "core/registration_table.h"

#include <algorithm>

namespace uffd {

std::shared_ptr<RegistrationTable::Entries> RegistrationTable::MakeEntries(Entries entries) {
  return std::allocate_shared<Entries>(PageAllocator<Entries>(), std::move(entries));
}

uint32_t RegistrationTable::Add(Registration registration) {
  const std::lock_guard<std::mutex> writing(writers_);
  for (const Registration& entry : *entries_) {
    if (entry.range.Overlaps(registration.range)) return 0;
  }
  auto next = MakeEntries(*entries_);
  const uint32_t id = next_id_++;
  registration.id = id;
  Insert(next.get(), std::move(registration));
  Publish(std::move(next));
  return id;
}

void RegistrationTable::SetIoctls(uint32_t id, uint64_t ioctls) {
  const std::lock_guard<std::mutex> writing(writers_);
  auto next = MakeEntries(*entries_);
  for (Registration& entry : *next) {
    if (entry.id == id) entry.ioctls = ioctls;
  }
  Publish(std::move(next));
}

void RegistrationTable::Remove(uint32_t id) {
  const std::lock_guard<std::mutex> writing(writers_);
  auto next = MakeEntries(*entries_);
  std::erase_if(*next, [id](const Registration& entry) { return entry.id == id; });
  Publish(std::move(next));
}

void RegistrationTable::Clear() {
  const std::lock_guard<std::mutex> writing(writers_);
  Publish(MakeEntries());
}

void RegistrationTable::Cut(Range range) {
  const std::lock_guard<std::mutex> writing(writers_);
  Publish(MakeEntries(Without(*entries_, range)));
}

void RegistrationTable::Move(Range range, uint64_t to) {
  const std::lock_guard<std::mutex> writing(writers_);
  Entries next = Without(*entries_, range);
  for (const Registration& entry : *entries_) {
    const Range part = entry.range.Intersect(range);
    if (part.Empty()) continue;
    Registration moved = entry;
    moved.range = {part.start - range.start + to, part.end - range.start + to};
    moved.base = entry.OffsetOf(part.start);
    Insert(&next, std::move(moved));
  }
  Publish(MakeEntries(std::move(next)));
}

std::shared_ptr<const RegistrationTable::Entries> RegistrationTable::Current() const noexcept {
  const std::lock_guard<std::mutex> reading(lookup_);
  return entries_;
}

void RegistrationTable::Publish(std::shared_ptr<const Entries> next) {
  {
    const std::lock_guard<std::mutex> swapping(lookup_);
    entries_.swap(next);
  }
  // The old entries are freed here, outside the lock; the last one may unmap memory.
}

RegistrationTable::Entries RegistrationTable::Without(const Entries& entries, Range range) {
  Entries kept;
  kept.reserve(entries.size() + 1);
  for (const Registration& entry : entries) {
    if (!entry.range.Overlaps(range)) {
      kept.push_back(entry);
      continue;
    }
    if (entry.range.start < range.start) {
      kept.push_back(entry);
      kept.back().range.end = range.start;
    }
    if (range.end < entry.range.end) {
      kept.push_back(entry);
      kept.back().base = entry.OffsetOf(range.end);
      kept.back().range.start = range.end;
    }
  }
  return kept;
}

void RegistrationTable::Insert(Entries* entries, Registration registration) {
  const auto after = std::upper_bound(
      entries->begin(), entries->end(), registration.range.start,
      [](uint64_t start, const Registration& entry) { return start < entry.range.start; });
  entries->insert(after, std::move(registration));
}

std::optional<Registration> RegistrationTable::Find(uint64_t address) const noexcept {
  const std::lock_guard<std::mutex> reading(lookup_);
  const auto after = std::upper_bound(
      entries_->begin(), entries_->end(), address,
      [](uint64_t at, const Registration& entry) { return at < entry.range.start; });
  if (after == entries_->begin()) return std::nullopt;
  const Registration& entry = *(after - 1);
  if (address >= entry.range.end) return std::nullopt;
  return entry;
}

bool RegistrationTable::Serves(uint32_t id, Range range) const noexcept {
  const std::lock_guard<std::mutex> reading(lookup_);
  return std::any_of(entries_->begin(), entries_->end(), [&](const Registration& entry) {
    return entry.id == id && entry.range.Contains(range);
  });
}

bool RegistrationTable::Overlaps(Range range, uint64_t modes) const noexcept {
  const std::shared_ptr<const Entries> entries = Current();
  return std::any_of(entries->begin(), entries->end(), [&](const Registration& entry) {
    return entry.range.Overlaps(range) && (entry.policy->mode & modes) != 0;
  });
}

bool RegistrationTable::IsSource(Range range) const noexcept {
  const std::shared_ptr<const Entries> entries = Current();
  return std::any_of(entries->begin(), entries->end(), [&](const Registration& entry) {
    return entry.policy->source && entry.policy->source->Memory().Overlaps(range);
  });
}

void RegistrationTable::TellLost(Range range) const noexcept {
  const std::shared_ptr<const Entries> entries = Current();
  for (const Registration& entry : *entries) {
    if (entry.range.Overlaps(range) && entry.policy->observer) entry.policy->observer->Lost(range);
  }
}

std::vector<Registration> RegistrationTable::WithId(uint32_t id) const {
  const std::shared_ptr<const Entries> entries = Current();
  std::vector<Registration> found;
  std::copy_if(entries->begin(), entries->end(), std::back_inserter(found),
               [id](const Registration& entry) { return entry.id == id; });
  return found;
}

std::vector<Registration> RegistrationTable::All() const {
  const std::shared_ptr<const Entries> entries = Current();
  return {entries->begin(), entries->end()};
}

}  // namespace uffd
