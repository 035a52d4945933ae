#ifndef UFFD_CORE_PAGE_LOADER_H_
#define UFFD_CORE_PAGE_LOADER_H_

#include <chrono>
#include <cstdint>

#include "core/page_source.h"

namespace uffd {

// A source that fills its registration also when nobody touches it. Whoever answers the faults
// tells it, and ends none with zeros where it has bytes: a page that is still needed when the
// registration ends is poisoned. Its methods allocate nothing and take no lock.
class PageLoader : public PageSource {
 public:
  // Faults wait until then, and what goes before has not been given back.
  virtual bool HasBegun() const noexcept = 0;
  // All is there: what is missing from then on is zeros.
  virtual bool IsLoaded() const noexcept = 0;
  // Whether the page at this offset is not there yet and has bytes. Of the size of the memory's.
  virtual bool IsNeeded(uint64_t offset) const noexcept = 0;
  // A fault of that page was answered; its thread waited this long.
  virtual void Touched(uint64_t offset, std::chrono::nanoseconds waited) noexcept = 0;
  // These whole pages read as zero from now on.
  virtual void GivenBack(uint64_t offset, uint64_t length) noexcept = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_PAGE_LOADER_H_
