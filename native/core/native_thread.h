#ifndef UFFD_CORE_NATIVE_THREAD_H_
#define UFFD_CORE_NATIVE_THREAD_H_

#include <pthread.h>

#include "core/result.h"

namespace uffd {

// A joinable thread with every signal blocked: signals belong to the program's own threads.
Result<pthread_t> StartNativeThread(const char* name, void* (*main)(void*), void* arg) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_NATIVE_THREAD_H_
