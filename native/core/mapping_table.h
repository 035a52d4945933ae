// The mappings of the process that somebody may attach to, whichever environment (main thread,
// Worker) made them.
#ifndef UFFD_CORE_MAPPING_TABLE_H_
#define UFFD_CORE_MAPPING_TABLE_H_

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "core/mapping.h"
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

 private:
  MappingTable() = default;

  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Mapping>> mappings_;
};

}  // namespace uffd

#endif  // UFFD_CORE_MAPPING_TABLE_H_
