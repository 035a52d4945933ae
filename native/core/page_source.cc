#include "core/page_source.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "core/test_barrier.h"

namespace uffd {
namespace {

constexpr uint64_t kLargestBasePage = 64UL * 1024;
alignas(kLargestBasePage) uint8_t g_zeros[kLargestBasePage];

// Has the kernel read memory of this process: what is not there is an error and not a signal.
Status ReadMemory(uint64_t from, uint64_t size, uint8_t* to) noexcept {
  uint64_t done = 0;
  while (done < size) {
    const iovec local{to + done, size - done};
    const iovec remote{reinterpret_cast<void*>(from + done), size - done};
    const ssize_t count = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Failure{count < 0 ? errno : EFAULT, "process_vm_readv"};
    done += static_cast<uint64_t>(count);
  }
  return Done{};
}

Status MayReadMemory() noexcept {
  const uint8_t from = 0;
  uint8_t to = 0;
  return ReadMemory(reinterpret_cast<uint64_t>(&from), sizeof(from), &to);
}

}  // namespace

const uint8_t* ZeroPage(uint64_t page_size) noexcept {
  if (page_size <= kLargestBasePage) return g_zeros;
  static std::mutex making;
  // Policies made before hold on to the smaller ones, and threads outlive static destructors.
  static auto& made = *new std::vector<std::shared_ptr<Mapping>>();
  const std::lock_guard<std::mutex> lock(making);
  for (const std::shared_ptr<Mapping>& zeros : made) {
    if (zeros->Bytes() >= page_size) return zeros->Data();
  }
  Result<std::shared_ptr<Mapping>> zeros = Mapping::Anonymous(page_size);
  if (!zeros) return nullptr;
  made.push_back(zeros.Value());
  return zeros.Value()->Data();
}

Status SourceBuffer::Prepare(uint64_t page_size) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (buffer_ && buffer_->Bytes() >= page_size) return Done{};
  }
  // Without the lock, which the loop waits for: see PageAllocator.
  Result<std::shared_ptr<Mapping>> larger = Mapping::Anonymous(page_size);
  if (!larger) return larger.Error();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!buffer_ || buffer_->Bytes() < page_size) buffer_.swap(larger.Value());
  return Done{};
}

Result<const uint8_t*> SourceBuffer::Load(const PageSource& source, uint64_t offset,
                                          uint64_t size) noexcept {
  std::shared_ptr<Mapping> buffer;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    buffer = buffer_;
  }
  steps_++;
  UFFD_BARRIER("source-read", nullptr);
  const Result<const uint8_t*> loaded = source.Load(offset, size, buffer->Data());
  steps_++;
  return loaded;
}

Result<std::shared_ptr<const PageSource>> MemorySource::Create(std::shared_ptr<Mapping> memory,
                                                               uint64_t offset) noexcept {
  if (memory->PagesOf() == Backing::kFile || offset % PageSize() != 0) {
    const Status readable = MayReadMemory();
    if (!readable) return readable.Error();
  }
  return std::shared_ptr<const PageSource>(new MemorySource(std::move(memory), offset));
}

MemorySource::MemorySource(std::shared_ptr<Mapping> memory, uint64_t offset) noexcept
    : memory_(std::move(memory)), offset_(offset), entered_(memory_->Enter()) {}

MemorySource::~MemorySource() {
  if (entered_) memory_->Leave(true);
}

Result<const uint8_t*> MemorySource::Load(uint64_t offset, uint64_t size,
                                          uint8_t* buffer) const noexcept {
  const uint64_t from = offset_ + offset;
  if (from >= memory_->Bytes()) return static_cast<const uint8_t*>(nullptr);
  const uint8_t* bytes = memory_->Data() + from;
  const uint64_t there = std::min(size, memory_->Bytes() - from);
  if (there == size && memory_->PagesOf() != Backing::kFile) return bytes;
  const Status read = ReadMemory(reinterpret_cast<uint64_t>(bytes), there, buffer);
  if (!read) return read.Error();
  std::memset(buffer + there, 0, size - there);
  return static_cast<const uint8_t*>(buffer);
}

Result<std::shared_ptr<const PageSource>> SharedSource::Create(Range memory,
                                                               uint64_t offset) noexcept {
  std::shared_ptr<const PageSource> source(new SharedSource(memory, offset));
  uint8_t trial = 0;
  const Result<const uint8_t*> read = source->Load(0, sizeof(trial), &trial);
  if (!read) return read.Error();
  return source;
}

Result<const uint8_t*> SharedSource::Load(uint64_t offset, uint64_t size,
                                          uint8_t* buffer) const noexcept {
  const uint64_t from = memory_.start + offset_ + offset;
  if (from >= memory_.end) return static_cast<const uint8_t*>(nullptr);
  const uint64_t there = std::min(size, memory_.end - from);
  const Status read = ReadMemory(from, there, buffer);
  if (!read) return read.Error();
  std::memset(buffer + there, 0, size - there);
  return static_cast<const uint8_t*>(buffer);
}

Result<std::shared_ptr<const PageSource>> FileSource::Create(FileDescriptor file, uint64_t offset,
                                                             uint64_t length) noexcept {
  const int flags = fcntl(file.Get(), F_GETFL);
  if (flags < 0) return Failure{errno, "fcntl(F_GETFL)"};
  if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH) != 0) return Failure{EBADF, "pread"};
  return std::shared_ptr<const PageSource>(new FileSource(std::move(file), offset, length));
}

Result<const uint8_t*> FileSource::Load(uint64_t offset, uint64_t size,
                                        uint8_t* buffer) const noexcept {
  if (offset >= length_) return static_cast<const uint8_t*>(nullptr);
  const uint64_t there = std::min(size, length_ - offset);
  uint64_t done = 0;
  while (done < there) {
    const ssize_t count = pread(file_.Get(), buffer + done, there - done,
                                static_cast<off_t>(offset_ + offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Failure{errno, "pread"};
    if (count == 0) return Failure{ENODATA, "pread"};  // shorter than it was
    done += static_cast<uint64_t>(count);
  }
  std::memset(buffer + there, 0, size - there);
  return static_cast<const uint8_t*>(buffer);
}

}  // namespace uffd
