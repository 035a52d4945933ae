#ifndef UFFD_CORE_IN_THREAD_SERVER_H_
#define UFFD_CORE_IN_THREAD_SERVER_H_

#include "core/range.h"

namespace uffd {

// Answers faults on the very thread that raised them, in a signal handler.
class InThreadServer {
 public:
  virtual ~InThreadServer() = default;
  // True: the thread is to try again. False: the signal is for somebody else to handle.
  virtual bool Serve(Range page) noexcept = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_IN_THREAD_SERVER_H_
