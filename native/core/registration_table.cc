#include "core/registration_table.h"

#include <algorithm>

namespace uffd {
namespace {

RegistrationView ViewOf(const Registration& entry) noexcept {
  return {entry.id, entry.range, entry.mode};
}

}  // namespace

uint32_t RegistrationTable::Add(Range range, uint64_t mode, std::shared_ptr<Mapping> memory) {
  const std::lock_guard<std::mutex> writing(writers_);
  for (const Registration& entry : *entries_) {
    if (entry.range.Overlaps(range)) return 0;
  }
  auto next = std::make_shared<Entries>(*entries_);
  const uint32_t id = next_id_++;
  const auto after = std::upper_bound(
      next->begin(), next->end(), range.start,
      [](uint64_t start, const Registration& entry) { return start < entry.range.start; });
  next->insert(after, Registration{id, range, mode, std::move(memory)});
  Publish(std::move(next));
  return id;
}

void RegistrationTable::Remove(uint32_t id) {
  const std::lock_guard<std::mutex> writing(writers_);
  auto next = std::make_shared<Entries>(*entries_);
  std::erase_if(*next, [id](const Registration& entry) { return entry.id == id; });
  Publish(std::move(next));
}

void RegistrationTable::Clear() {
  const std::lock_guard<std::mutex> writing(writers_);
  Publish(std::make_shared<Entries>());
}

void RegistrationTable::Publish(std::shared_ptr<const Entries> next) {
  {
    const std::lock_guard<std::mutex> swapping(lookup_);
    entries_.swap(next);
  }
  // The old entries are freed here, outside the lock; the last one may unmap memory.
}

std::optional<RegistrationView> RegistrationTable::Find(uint64_t address) const noexcept {
  const std::lock_guard<std::mutex> reading(lookup_);
  const auto after = std::upper_bound(
      entries_->begin(), entries_->end(), address,
      [](uint64_t at, const Registration& entry) { return at < entry.range.start; });
  if (after == entries_->begin()) return std::nullopt;
  const Registration& entry = *(after - 1);
  if (address >= entry.range.end) return std::nullopt;
  return ViewOf(entry);
}

std::optional<RegistrationView> RegistrationTable::FindById(uint32_t id) const noexcept {
  const std::lock_guard<std::mutex> reading(lookup_);
  for (const Registration& entry : *entries_) {
    if (entry.id == id) return ViewOf(entry);
  }
  return std::nullopt;
}

std::vector<RegistrationView> RegistrationTable::All() const {
  std::shared_ptr<const Entries> entries;
  {
    const std::lock_guard<std::mutex> reading(lookup_);
    entries = entries_;
  }
  std::vector<RegistrationView> views;
  views.reserve(entries->size());
  for (const Registration& entry : *entries) views.push_back(ViewOf(entry));
  return views;
}

}  // namespace uffd
