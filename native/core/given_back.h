// Which pages of registered memory were given back to the kernel: they are zeros, whatever their
// source has. By offset in the registration, so that its memory may move.
#ifndef UFFD_CORE_GIVEN_BACK_H_
#define UFFD_CORE_GIVEN_BACK_H_

#include <cstdint>
#include <memory>

#include "core/mapping.h"
#include "core/result.h"

namespace uffd {

// A bit for each page; those never touched cost nothing. Nothing is allocated once it is made. Loop
// thread only.
class GivenBack {
 public:
  static Result<std::shared_ptr<GivenBack>> Create(uint64_t bytes, uint64_t page_size) noexcept;

  // Whole pages, in bytes.
  void Add(uint64_t offset, uint64_t length) noexcept;
  bool Has(uint64_t offset) const noexcept;

 private:
  GivenBack(std::shared_ptr<Mapping> bits, uint64_t page_size) noexcept
      : bits_(std::move(bits)), page_size_(page_size) {}

  const std::shared_ptr<Mapping> bits_;
  const uint64_t page_size_;
};

}  // namespace uffd

#endif  // UFFD_CORE_GIVEN_BACK_H_
