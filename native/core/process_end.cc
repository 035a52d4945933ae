#include "core/process_end.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>

namespace uffd {
namespace {

// Looks in a row at which the main thread waited for the same thread. One that has nothing left to
// do ends at once.
constexpr int kLooks = 3;

// No thread may be trusted to be there still when its memory is read. Returns the bytes that came.
size_t ReadOwnMemory(uint64_t address, void* to, size_t length) noexcept {
  const iovec local{to, length};
  const iovec remote{reinterpret_cast<void*>(address), length};
  const ssize_t count = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
  return count < 0 ? 0 : static_cast<size_t>(count);
}

// Up to where this thread's own memory reaches, which has what libc keeps of it at its end: behind
// it may lie memory whose pages must not come into being by being read.
uint64_t EndOfOwnStack() noexcept {
  pthread_attr_t attributes;
  void* stack = nullptr;
  size_t size = 0;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return 0;
  if (pthread_attr_getstack(&attributes, &stack, &size) != 0) size = 0;
  pthread_attr_destroy(&attributes);
  return reinterpret_cast<uint64_t>(stack) + size;
}

const void* ObjectOf(const void* address) noexcept {
  Dl_info info;
  return address != nullptr && dladdr(address, &info) != 0 ? info.dli_fbase : nullptr;
}

}  // namespace

Result<int> ProcessEnd::Descriptor() noexcept {
  static std::mutex opening;
  static int fd = -1;
  const std::lock_guard<std::mutex> lock(opening);
  // Of the main thread, whichever thread asks.
  if (fd < 0) fd = open("/proc/self/syscall", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Failure{errno, "open(/proc/self/syscall)"};
  return fd;
}

ProcessEnd::ProcessEnd(void* (*routine)(void*)) noexcept {
  alignas(uint64_t) unsigned char self[4096];
  const auto start = static_cast<uint64_t>(pthread_self());
  const uint64_t end = EndOfOwnStack();
  const size_t room = end > start ? std::min<uint64_t>(end - start, sizeof(self)) : 0;
  const size_t length = ReadOwnMemory(start, self, room);
  const auto find = [&](auto value) -> std::optional<int64_t> {
    for (size_t at = 0; at + sizeof(value) <= length; at += sizeof(value)) {
      if (memcmp(self + at, &value, sizeof(value)) == 0) return static_cast<int64_t>(at);
    }
    return std::nullopt;
  };
  const auto id_at = find(gettid());
  const auto routine_at = find(routine);
  if (id_at && routine_at) routine_offset_ = *routine_at - *id_at;
}

bool ProcessEnd::HasBegun() noexcept {
  const std::optional<Join> join = JoinOfMainThread();
  if (!join || !IsOfNode(*join)) {
    looks_ = 0;
    return false;
  }
  looks_ = join->thread == joined_ ? looks_ + 1 : 1;
  joined_ = join->thread;
  return looks_ >= kLooks;
}

std::optional<ProcessEnd::Join> ProcessEnd::JoinOfMainThread() noexcept {
  const Result<int> fd = Descriptor();
  char line[256] = {};
  if (!fd || pread(fd.Value(), line, sizeof(line) - 1, 0) <= 0) return std::nullopt;
  long call = 0;
  unsigned long address = 0;
  unsigned long operation = 0;
  unsigned long value = 0;
  if (sscanf(line, "%ld %lx %lx %lx", &call, &address, &operation, &value) != 4) {
    return std::nullopt;
  }
  // libc waits until the kernel clears the thread's id (CLONE_CHILD_CLEARTID), which wakes a futex
  // that is not private; those of locks and condition variables are.
  const bool waits = call == SYS_futex && (operation & FUTEX_PRIVATE_FLAG) == 0;
  if (!waits) return std::nullopt;
  return Join{static_cast<pid_t>(value), address};
}

// Native code may have the main thread wait for threads of its own, for as long as it likes.
bool ProcessEnd::IsOfNode(const Join& join) const noexcept {
  const void* routine = nullptr;
  if (!routine_offset_) return false;
  const uint64_t at = join.thread_id_at + static_cast<uint64_t>(*routine_offset_);
  if (ReadOwnMemory(at, &routine, sizeof(routine)) != sizeof(routine)) return false;
  const void* const object = ObjectOf(routine);
  // A Node.js of shared libraries has them in two.
  return object != nullptr && (object == ObjectOf(dlsym(RTLD_DEFAULT, "napi_create_object")) ||
                               object == ObjectOf(dlsym(RTLD_DEFAULT, "uv_thread_create")));
}

}  // namespace uffd
