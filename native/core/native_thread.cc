#include "core/native_thread.h"

#include <csignal>

namespace uffd {

Result<pthread_t> StartNativeThread(const char* name, void* (*main)(void*), void* arg) noexcept {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread{};
  const int error = pthread_create(&thread, nullptr, main, arg);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return Failure{error, "pthread_create"};
  pthread_setname_np(thread, name);
  return thread;
}

}  // namespace uffd
