#include "core/open_faults.h"

#include <algorithm>

namespace uffd {

Result<std::shared_ptr<Mapping>> OpenFaults::MakeEntries() noexcept {
  return Mapping::Anonymous(sizeof(Table));
}

void OpenFaults::Prepare(std::shared_ptr<Mapping>* entries) noexcept {
  if (table_ != nullptr) return;
  memory_.swap(*entries);
  table_ = reinterpret_cast<Table*>(memory_->Data());
}

uint64_t OpenFaults::Add(const Event& fault, Clock::time_point due) noexcept {
  if (open_count_ == kCapacity) return 0;
  // A fault that stays open for long keeps its place; the others go round it.
  while (table_->entries[next_id_ % kCapacity].open) next_id_++;
  const uint64_t id = next_id_++;
  const size_t index = id % kCapacity;
  Entry& entry = table_->entries[index];
  entry = Entry{};
  entry.id = id;
  entry.fault = fault;
  entry.due = due;
  entry.open = true;
  table_->open[open_count_++] = static_cast<uint16_t>(index);
  return id;
}

bool OpenFaults::Attach(Range page, FaultReason reason) noexcept {
  for (size_t i = 0; i < open_count_; i++) {
    Entry& entry = table_->entries[table_->open[i]];
    if (entry.fault.page.start != page.start || entry.fault.reason != reason) continue;
    entry.attached = true;
    return true;
  }
  return false;
}

OpenFaults::Entry* OpenFaults::FindOpen(uint64_t id) noexcept {
  if (table_ == nullptr) return nullptr;
  Entry& entry = table_->entries[id % kCapacity];
  return entry.id == id && entry.open ? &entry : nullptr;
}

Ending OpenFaults::EndingOf(uint64_t id) const noexcept {
  if (table_ == nullptr) return {EndedBy::kForgotten, Action::kNone};
  const Entry& entry = table_->entries[id % kCapacity];
  return entry.id == id ? entry.ending : Ending{EndedBy::kForgotten, Action::kNone};
}

void OpenFaults::End(Entry* entry, Ending ending) noexcept {
  const auto index = static_cast<uint16_t>(entry - table_->entries);
  entry->open = false;
  entry->claimed = false;
  entry->ending = ending;
  uint16_t* const last = table_->open + open_count_;
  std::iter_swap(std::find(table_->open, last, index), last - 1);
  open_count_--;
}

bool OpenFaults::EndIn(Range range, Ending ending) noexcept {
  const size_t before = open_count_;
  ForEachOpen([&](Entry* entry) {
    if (!entry->claimed && entry->fault.page.Overlaps(range)) End(entry, ending);
  });
  return open_count_ < before;
}

std::optional<OpenFaults::Clock::time_point> OpenFaults::NextDue() const noexcept {
  std::optional<Clock::time_point> next;
  for (size_t i = 0; i < open_count_; i++) {
    const Entry& entry = table_->entries[table_->open[i]];
    if (!entry.claimed && (!next || entry.due < *next)) next = entry.due;
  }
  return next;
}

}  // namespace uffd
