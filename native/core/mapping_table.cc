#include "core/mapping_table.h"

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <iterator>
#include <utility>

namespace uffd {
namespace {

Result<std::string> RandomKey() noexcept {
  constexpr char kDigits[] = "0123456789abcdef";
  std::array<unsigned char, 16> bytes{};
  // So few bytes come whole or not at all.
  if (getrandom(bytes.data(), bytes.size(), 0) < 0) return Failure{errno, "getrandom"};
  std::string key;
  for (const unsigned char byte : bytes) {
    key += kDigits[byte >> 4];
    key += kDigits[byte & 15];
  }
  return key;
}

}  // namespace

MappingTable& MappingTable::Get() noexcept {
  static auto* table = new MappingTable();
  return *table;
}

Result<std::string> MappingTable::KeyOf(const std::shared_ptr<Mapping>& mapping) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(mappings_, [](const auto& entry) { return entry.second.expired(); });
  for (const auto& [key, known] : mappings_) {
    // Not by locking it: the last to let go of a mapping comes here (Remove).
    if (!known.owner_before(mapping) && !mapping.owner_before(known)) return key;
  }
  Result<std::string> key = RandomKey();
  if (key) mappings_[key.Value()] = mapping;
  return key;
}

std::shared_ptr<Mapping> MappingTable::Enter(const std::string& key) noexcept {
  // Let go of without the lock: the last to do so takes it (Remove).
  std::shared_ptr<Mapping> mapping;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = mappings_.find(key);
  if (found == mappings_.end()) return nullptr;
  mapping = found->second.lock();
  return mapping != nullptr && mapping->Enter() ? mapping : nullptr;
}

std::shared_ptr<Mapping> MappingTable::At(Range bytes) noexcept {
  while (const std::optional<Place> place = FirstIn(bytes)) {
    if (std::shared_ptr<Mapping> found = Find(*place)) return found;
  }
  return nullptr;
}

std::vector<std::shared_ptr<Mapping>> MappingTable::Forgotten(
    const std::shared_ptr<MemoryFile>& file) noexcept {
  std::vector<Place> places;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::erase_if(forgotten_, [this](uint64_t start) {
      const auto at = places_.find(start);
      return at == places_.end() || !at->second.mapping.expired();
    });
    for (const uint64_t start : forgotten_) {
      const Place& place = places_.at(start);
      // Not by locking it: IsAliased counts who has the file.
      if (!place.file.owner_before(file) && !file.owner_before(place.file)) places.push_back(place);
    }
  }
  std::vector<std::shared_ptr<Mapping>> found;
  for (const Place& place : places) {
    if (auto mapping = Find(place)) found.push_back(std::move(mapping));
  }
  return found;
}

Range MappingTable::RangeOf(const Place& place) noexcept {
  return {place.request.over.start, place.request.over.start + place.request.bytes};
}

std::optional<MappingTable::Place> MappingTable::FirstIn(Range bytes) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto at = places_.upper_bound(bytes.start);
  // The one before may reach into it.
  if (at != places_.begin() && RangeOf(std::prev(at)->second).end > bytes.start) --at;
  if (at == places_.end() || at->first >= bytes.end) return std::nullopt;
  return at->second;
}

std::shared_ptr<Mapping> MappingTable::Find(const Place& place) noexcept {
  const Range range = RangeOf(place);
  std::shared_ptr<Mapping> found = place.mapping.lock();
  const bool there =
      place.shown ? ShowsFile(range, place.shown->device, place.shown->inode) : found != nullptr;
  if (there && found == nullptr) found = Mapping::Again(place.request, place.file.lock());
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto at = places_.find(range.start);
  if (at == places_.end() || at->second.key != place.key) return there ? found : nullptr;
  if (!there) {
    places_.erase(at);
    return nullptr;
  }
  at->second.key = found.get();
  at->second.mapping = found;
  return found;
}

void MappingTable::Add(const std::shared_ptr<Mapping>& mapping,
                       const std::shared_ptr<MemoryFile>& file) noexcept {
  const Range range = mapping->AddressRange();
  Place place;
  place.key = mapping.get();
  place.mapping = mapping;
  place.file = file;
  place.request.backing = mapping->PagesOf();
  place.request.bytes = mapping->Bytes();
  place.request.page_size = mapping->BackingPageSize();
  place.request.over = range;
  if (mapping->IsOver() && mapping->PagesOf() != Backing::kAnonymous) place.shown = FileAt(range);
  const std::lock_guard<std::mutex> lock(mutex_);
  // What was there was unmapped by its owner.
  auto at = places_.upper_bound(range.start);
  if (at != places_.begin() && RangeOf(std::prev(at)->second).end > range.start) --at;
  while (at != places_.end() && at->first < range.end) at = places_.erase(at);
  places_[range.start] = std::move(place);
}

void MappingTable::Remove(const Mapping* mapping) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto at = places_.find(mapping->AddressRange().start);
  if (at == places_.end() || at->second.key != mapping) return;
  // Of one laid over other memory that memory tells whether it is there.
  if (at->second.shown) {
    forgotten_.insert(at->first);
  } else {
    places_.erase(at);
  }
}

}  // namespace uffd
