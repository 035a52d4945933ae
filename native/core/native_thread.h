#ifndef UFFD_CORE_NATIVE_THREAD_H_
#define UFFD_CORE_NATIVE_THREAD_H_

#include <pthread.h>
#include <sched.h>
#include <sys/types.h>

#include <chrono>
#include <optional>

#include "core/result.h"

namespace uffd {

// A joinable thread with every signal blocked: signals belong to the program's own threads. It has
// its name when this returns.
Result<pthread_t> StartNativeThread(const char* name, void* (*main)(void*), void* arg) noexcept;

// Where this thread may run, and of that what is not its own processor at the moment. None: it is
// not told, or there is no other.
std::optional<cpu_set_t> OwnProcessors() noexcept;
std::optional<cpu_set_t> OtherProcessors() noexcept;
// The one it is on.
std::optional<cpu_set_t> ThisProcessor() noexcept;
cpu_set_t OnlyProcessor(int processor) noexcept;
// Whether this thread is of the usual class, and not to yield to others (nice).
bool HasOrdinaryPriority() noexcept;
// Where a thread of this process (gettid(2)) is, or was when it last ran. proc(5).
std::optional<int> ProcessorOf(pid_t thread) noexcept;
// Filters that forbid it may end the process that tries (systemd's @resources).
bool MayChooseProcessors() noexcept;
// False: it may not.
bool LetRunOn(pthread_t thread, const cpu_set_t& processors) noexcept;

// Whether the machine has a processor that nobody uses or waits for, as far as it can be told: it
// may be one that this process is not allowed to use. proc_loadavg(5).
bool HasIdleProcessor() noexcept;

// Whether so many more can be started now: who starts them may not survive that they cannot.
bool CanStartThreads(size_t count) noexcept;

// Whether this thread (gettid(2)) of the process waits for a processor, or where the kernel lets
// nothing interrupt it: for memory, or while another thread changes mappings. proc(5).
bool IsHeldUp(pid_t thread) noexcept;
std::chrono::nanoseconds CpuTimeOf(pthread_t thread) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_NATIVE_THREAD_H_
