#ifndef UFFD_CORE_NO_READER_H_
#define UFFD_CORE_NO_READER_H_

#include "core/fault_server.h"

namespace uffd {

// Of a session whose events nobody reads. Outlives every one.
inline Notifier* NoReader() noexcept {
  class Deaf final : public Notifier {
   public:
    void Poke() noexcept override {}
  };
  static auto* deaf = new Deaf();
  return deaf;
}

}  // namespace uffd

#endif  // UFFD_CORE_NO_READER_H_
