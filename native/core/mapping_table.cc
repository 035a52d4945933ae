#include "core/mapping_table.h"

#include <sys/random.h>

#include <array>
#include <cerrno>

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
    if (known.lock() == mapping) return key;
  }
  Result<std::string> key = RandomKey();
  if (key) mappings_[key.Value()] = mapping;
  return key;
}

std::shared_ptr<Mapping> MappingTable::Enter(const std::string& key) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = mappings_.find(key);
  if (found == mappings_.end()) return nullptr;
  std::shared_ptr<Mapping> mapping = found->second.lock();
  return mapping != nullptr && mapping->Enter() ? mapping : nullptr;
}

}  // namespace uffd
