#include "core/quiet_time.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "core/file_descriptor.h"
#include "core/helper.h"

namespace uffd {
namespace {

// proc(5).
constexpr char kTasks[] = "/proc/self/task";

FileDescriptor OpenOf(pid_t thread, const char* name) noexcept {
  char path[64];
  snprintf(path, sizeof(path), "%s/%d/%s", kTasks, static_cast<int>(thread), name);
  return FileDescriptor(open(path, O_RDONLY | O_CLOEXEC));
}

// Without a processor, and not waiting for one: only then does the kernel tell where it sleeps.
bool Sleeps(pid_t thread) noexcept {
  const FileDescriptor file = OpenOf(thread, "wchan");
  char where[2] = {};
  return file && read(file.Get(), where, sizeof(where)) > 0 && where[0] != '0';
}

}  // namespace

// Those of this process, and how often each was given a processor: that is counted before it does
// anything with it. One that sleeps when it was given one so many times has slept ever since.
class QuietTime::Threads {
 public:
  static Threads& Get() noexcept {
    // Never destroyed: threads may outlive the objects of the process.
    static auto* const threads = new Threads();
    return *threads;
  }

  // Whoever has it is awake, so that nobody else needs it.
  std::unique_lock<std::mutex> TryLock() noexcept {
    return std::unique_lock<std::mutex>(mutex_, std::try_to_lock);
  }

  // In this order: an unknown thread is one that was made before these were seen to sleep and is
  // counted below, or one that somebody made since, who did not sleep then.
  bool AllSleep(QuietTime* time, uint64_t most_threads) noexcept {
    if (process_ != getpid() && !Open()) return false;
    const uint64_t count = CountNow();
    if (count > std::min<uint64_t>(most_threads, kMostThreads)) return false;
    if (count != known_.size() && !List()) return false;
    const pid_t own = gettid();
    for (size_t i = 0; i < known_.size(); i++) {
      Thread& thread = known_[i];
      if (thread.id == own || Helper::Is(thread.id)) continue;
      const uint64_t runs = thread.Runs();
      if (runs == kUnknown) {
        // It ended.
        known_.clear();
        return false;
      }
      if (runs != thread.slept_after && !Sleeps(thread.id)) return false;
      thread.slept_after = time->runs_[i] = runs;
    }
    time->list_ = list_;
    return CountNow() == known_.size();
  }

  bool SleptSince(const QuietTime& time) noexcept {
    if (process_ != getpid() || list_ != time.list_ || CountNow() != known_.size()) return false;
    const pid_t own = gettid();
    for (size_t i = 0; i < known_.size(); i++) {
      const Thread& thread = known_[i];
      if (thread.id == own || Helper::Is(thread.id)) continue;
      if (thread.Runs() != time.runs_[i]) return false;
    }
    return true;
  }

 private:
  // A thread that sleeps has run.
  static constexpr uint64_t kUnknown = 0;

  struct Thread {
    pid_t id;
    FileDescriptor schedstat;
    uint64_t slept_after = kUnknown;  // runs

    // kUnknown: it ended, or the kernel does not count them.
    uint64_t Runs() const noexcept {
      char line[96] = {};
      if (pread(schedstat.Get(), line, sizeof(line) - 1, 0) <= 0) return kUnknown;
      // Nanoseconds that it had a processor and that it waited for one, then how often it had one.
      const char* const last = strrchr(line, ' ');
      return last == nullptr ? kUnknown : strtoull(last, nullptr, 10);
    }
  };

  bool Open() noexcept {
    known_.clear();
    directory_ = FileDescriptor(open(kTasks, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory_) process_ = getpid();
    return static_cast<bool>(directory_);
  }

  // A link for each, beside those of every directory.
  size_t CountNow() const noexcept {
    struct stat tasks {};
    if (fstat(directory_.Get(), &tasks) != 0 || tasks.st_nlink < 2) return SIZE_MAX;
    return tasks.st_nlink - 2;
  }

  bool List() noexcept {
    known_.clear();
    list_++;
    DIR* const tasks = opendir(kTasks);
    if (tasks == nullptr) return false;
    while (const dirent* entry = readdir(tasks)) {
      const auto id = static_cast<pid_t>(strtol(entry->d_name, nullptr, 10));
      if (id <= 0) continue;
      FileDescriptor schedstat = OpenOf(id, "schedstat");
      if (!schedstat || known_.size() == kMostThreads) {
        known_.clear();
        break;
      }
      known_.push_back({id, std::move(schedstat)});
    }
    closedir(tasks);
    return !known_.empty();
  }

  std::mutex mutex_;
  pid_t process_ = -1;  // a forked child has other threads
  FileDescriptor directory_;
  std::vector<Thread> known_;
  uint64_t list_ = 0;  // which one it is
};

uint64_t QuietTime::FaultsOfThisThread() noexcept {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return static_cast<uint64_t>(usage.ru_minflt + usage.ru_majflt);
}

bool QuietTime::Begin(uint64_t most_threads) noexcept {
  const auto lock = Threads::Get().TryLock();
  if (!lock || !Threads::Get().AllSleep(this, most_threads)) return false;
  faults_ = FaultsOfThisThread();
  return true;
}

bool QuietTime::Lasted() const noexcept {
  // What was read before is no newer than what is told now.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (FaultsOfThisThread() != faults_) return false;
  const auto lock = Threads::Get().TryLock();
  return lock && Threads::Get().SleptSince(*this);
}

}  // namespace uffd
