// The mappings of the process, whichever environment (main thread, Worker) made them: by name for
// who wants to attach to one, and by address for who has memory and asks what it is. A buffer that
// was posted or cloned is another object in each thread, at the same address.
#ifndef UFFD_CORE_MAPPING_TABLE_H_
#define UFFD_CORE_MAPPING_TABLE_H_

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/mapping.h"
#include "core/memory_map.h"
#include "core/result.h"

namespace uffd {

class MappingTable {
 public:
  static MappingTable& Get() noexcept;  // never destroyed: Workers may outlive static destructors

  // The name under which Enter finds it: random, so that none can be guessed and none of another
  // process is known here. The same at each call.
  Result<std::string> KeyOf(const std::shared_ptr<Mapping>& mapping) noexcept;
  // One more open region of the mapping; null when there is none of this name, or all are closed.
  std::shared_ptr<Mapping> Enter(const std::string& key) noexcept;

  // The mapping that lies there now, the first of several; null where none does. One laid over
  // memory of somebody else is found as long as that is there, also when all that knew of it is
  // gone (test 62).
  std::shared_ptr<Mapping> At(Range bytes) noexcept;
  // All that show this file and are there, but that nobody knows of any more.
  std::vector<std::shared_ptr<Mapping>> Forgotten(const std::shared_ptr<MemoryFile>& file) noexcept;

  // For Mapping itself: once it is mapped, and before it is unmapped.
  void Add(const std::shared_ptr<Mapping>& mapping,
           const std::shared_ptr<MemoryFile>& file) noexcept;
  void Remove(const Mapping* mapping) noexcept;

 private:
  // Where a mapping lies, and what to make it of again.
  struct Place {
    const Mapping* key = nullptr;
    std::weak_ptr<Mapping> mapping;
    std::weak_ptr<MemoryFile> file;
    MappingRequest request;
    std::optional<FileIdentity> shown;  // of one laid over other memory that is no anonymous one
  };

  MappingTable() = default;
  static Range RangeOf(const Place& place) noexcept;
  // The mapping of a place, made anew if need be; null when it is not there any more.
  std::shared_ptr<Mapping> Find(const Place& place) noexcept;
  std::optional<Place> FirstIn(Range bytes) noexcept;

  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Mapping>> mappings_;
  std::map<uint64_t, Place> places_;  // by the first address
  std::set<uint64_t> forgotten_;      // those of them that nobody may know of any more
};

}  // namespace uffd

#endif  // UFFD_CORE_MAPPING_TABLE_H_
