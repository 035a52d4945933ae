// libuv's pool of threads, for work of the addon.
#ifndef UFFD_THREAD_POOL_H_
#define UFFD_THREAD_POOL_H_

namespace uffd {

// libuv ends the process when it cannot start the threads of its pool, which may be asked for the
// first time by this addon.
bool PoolCanStart() noexcept;

}  // namespace uffd

#endif  // UFFD_THREAD_POOL_H_
