// The ranges one userfaultfd serves: written by JavaScript threads, looked up by the fault loop.
#ifndef UFFD_CORE_REGISTRATION_TABLE_H_
#define UFFD_CORE_REGISTRATION_TABLE_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/mapping.h"
#include "core/range.h"

namespace uffd {

struct Registration {
  uint32_t id = 0;
  Range range;
  uint64_t mode = 0;                // UFFDIO_REGISTER_MODE_*
  std::shared_ptr<Mapping> memory;  // keeps memory of our own mapped while it is registered
};

struct RegistrationView {
  uint32_t id;
  Range range;
  uint64_t mode;
};

// The lock is held for a few loads, never across a system call, an allocation or a touch of memory
// that may fault: the loop takes it while threads sleep.
class RegistrationTable {
 public:
  // 0 when the range overlaps another one.
  uint32_t Add(Range range, uint64_t mode, std::shared_ptr<Mapping> memory);
  void Remove(uint32_t id);
  void Clear();
  std::optional<RegistrationView> Find(uint64_t address) const noexcept;
  std::optional<RegistrationView> FindById(uint32_t id) const noexcept;
  std::vector<RegistrationView> All() const;

 private:
  using Entries = std::vector<Registration>;
  void Publish(std::shared_ptr<const Entries> next);

  std::mutex writers_;         // one change at a time
  mutable std::mutex lookup_;  // guards the pointer only
  std::shared_ptr<const Entries> entries_ = std::make_shared<Entries>();
  uint32_t next_id_ = 1;
};

}  // namespace uffd

#endif  // UFFD_CORE_REGISTRATION_TABLE_H_
