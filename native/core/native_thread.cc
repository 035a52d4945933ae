#include "core/native_thread.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>
#include <vector>

#include "core/file_descriptor.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// Of a thread of this process: what comes after "TID (NAME)", in which a name may have parentheses.
class TaskStat {
 public:
  explicit TaskStat(pid_t thread) noexcept {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", static_cast<int>(thread));
    const FileDescriptor file(open(path, O_RDONLY | O_CLOEXEC));
    if (!file || read(file.Get(), line_, sizeof(line_) - 1) <= 0) return;
    const char* const name_end = strrchr(line_, ')');
    if (name_end != nullptr) rest_ = name_end + 1;
  }

  // As proc_pid_stat(5) counts them, from 3 on. Null: there is none, or no such thread.
  const char* Field(int number) const noexcept {
    const char* field = rest_;
    for (int at = 2; field != nullptr && at < number; at++) {
      field = strchr(field, ' ');
      if (field != nullptr) field++;
    }
    return field;
  }

 private:
  char line_[1024] = {};
  const char* rest_ = nullptr;
};

}  // namespace

Result<pthread_t> StartNativeThread(const char* name, void* (*main)(void*), void* arg) noexcept {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  // A thread begins with the name of the one that makes it: cheaper than the file through which
  // another thread is named, and there from its first moment.
  char own_name[16] = {};
  prctl(PR_GET_NAME, own_name);
  prctl(PR_SET_NAME, name);
  pthread_t thread{};
  const int error = pthread_create(&thread, nullptr, main, arg);
  prctl(PR_SET_NAME, own_name);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return Failure{error, "pthread_create"};
  return thread;
}

std::optional<cpu_set_t> OwnProcessors() noexcept {
  cpu_set_t processors;
  if (sched_getaffinity(0, sizeof(processors), &processors) != 0) return std::nullopt;
  return processors;
}

std::optional<cpu_set_t> OtherProcessors() noexcept {
  std::optional<cpu_set_t> processors = OwnProcessors();
  if (!processors) return std::nullopt;
  const int own = sched_getcpu();
  if (own >= 0) CPU_CLR(own, &*processors);
  if (CPU_COUNT(&*processors) == 0) return std::nullopt;
  return processors;
}

std::optional<cpu_set_t> ThisProcessor() noexcept {
  const int own = sched_getcpu();
  if (own < 0) return std::nullopt;
  return OnlyProcessor(own);
}

cpu_set_t OnlyProcessor(int processor) noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  return set;
}

bool HasOrdinaryPriority() noexcept {
  return sched_getscheduler(0) == SCHED_OTHER && getpriority(PRIO_PROCESS, 0) <= 0;
}

bool MayChooseProcessors() noexcept { return prctl(PR_GET_SECCOMP) == 0; }

std::optional<int> ProcessorOf(pid_t thread) noexcept {
  const TaskStat stat(thread);
  const char* const processor = stat.Field(39);
  if (processor == nullptr) return std::nullopt;
  return atoi(processor);
}

bool LetRunOn(pthread_t thread, const cpu_set_t& processors) noexcept {
  return MayChooseProcessors() &&
         pthread_setaffinity_np(thread, sizeof(processors), &processors) == 0;
}

bool HasIdleProcessor() noexcept {
  if (UFFD_HELPS_ALWAYS()) return true;
  const FileDescriptor file(open("/proc/loadavg", O_RDONLY | O_CLOEXEC));
  char line[128] = {};
  if (!file || read(file.Get(), line, sizeof(line) - 1) <= 0) return true;
  // Three averages, then how many threads run or could, this one among them.
  int running = 0;
  if (sscanf(line, "%*s %*s %*s %d", &running) != 1) return true;
  static const long processors = sysconf(_SC_NPROCESSORS_ONLN);
  return running < processors;
}

bool CanStartThreads(size_t count) noexcept {
  std::vector<pthread_t> started;
  started.reserve(count);
  std::mutex over;
  {
    const std::lock_guard<std::mutex> lock(over);
    const auto wait = [](void* mutex) -> void* {
      const std::lock_guard<std::mutex> until_over(*static_cast<std::mutex*>(mutex));
      return nullptr;
    };
    while (started.size() < count) {
      const Result<pthread_t> thread = StartNativeThread("uffd-probe", wait, &over);
      if (!thread) break;
      started.push_back(thread.Value());
    }
  }
  for (const pthread_t thread : started) pthread_join(thread, nullptr);
  return started.size() == count;
}

bool IsHeldUp(pid_t thread) noexcept {
  const TaskStat stat(thread);
  const char* const state = stat.Field(3);
  return state != nullptr && (*state == 'R' || *state == 'D');
}

std::chrono::nanoseconds CpuTimeOf(pthread_t thread) noexcept {
  clockid_t clock{};
  timespec used{};
  if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &used) != 0) return {};
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

}  // namespace uffd
