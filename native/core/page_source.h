// Where the bytes of missing pages come from when no JavaScript is asked: other memory, or a file.
#ifndef UFFD_CORE_PAGE_SOURCE_H_
#define UFFD_CORE_PAGE_SOURCE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "core/file_descriptor.h"
#include "core/mapping.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

// Has no state of its own that changes: several loops may load from one at a time.
class PageSource {
 public:
  virtual ~PageSource() = default;
  // The `size` bytes at `offset`, in place or in `buffer` (`size` bytes long); null: they are
  // zeros. May wait for a disk.
  virtual Result<const uint8_t*> Load(uint64_t offset, uint64_t size,
                                      uint8_t* buffer) const noexcept = 0;
  // From this offset on there are only zeros.
  virtual uint64_t End() const noexcept { return UINT64_MAX; }
  // The memory that is read, which must not wait for a fault itself. Empty for a file.
  virtual Range Memory() const noexcept { return {}; }
};

// What a source that is not in memory loads into. Grown before a registration needs it.
class SourceBuffer {
 public:
  Status Prepare(uint64_t page_size) noexcept;
  // Loop thread only: the bytes are good until the next call.
  Result<const uint8_t*> Load(const PageSource& source, uint64_t offset, uint64_t size) noexcept;

  // Any thread. Whether a source is being read now, and how often that began or ended.
  bool IsLoading() const noexcept { return steps_.load() % 2 != 0; }
  uint64_t Steps() const noexcept { return steps_.load(); }

 private:
  std::mutex mutex_;
  std::shared_ptr<Mapping> buffer_;
  std::atomic<uint64_t> steps_{0};
};

// One page of zeros, never freed: null when there is no memory for a huge one.
const uint8_t* ZeroPage(uint64_t page_size) noexcept;

// Memory of our own from `offset` on, zeros after its end. Its pages stay while it is a source,
// also when their region is closed. Whole pages are given in place, for the kernel to copy; all
// else is read by the kernel here: a page may be poisoned, and that of a file gone, or slow.
class MemorySource final : public PageSource {
 public:
  // Fails where this process may not read itself (a seccomp filter), but needs to.
  static Result<std::shared_ptr<const PageSource>> Create(std::shared_ptr<Mapping> memory,
                                                          uint64_t offset) noexcept;
  ~MemorySource() override;
  MemorySource(const MemorySource&) = delete;
  MemorySource& operator=(const MemorySource&) = delete;
  Result<const uint8_t*> Load(uint64_t offset, uint64_t size,
                              uint8_t* buffer) const noexcept override;
  uint64_t End() const noexcept override { return memory_->Bytes() - offset_; }
  Range Memory() const noexcept override { return memory_->AddressRange(); }

 private:
  MemorySource(std::shared_ptr<Mapping> memory, uint64_t offset) noexcept;

  const std::shared_ptr<Mapping> memory_;
  const uint64_t offset_;
  const bool entered_;  // like an open region of it
};

// Memory that V8 keeps (a SharedArrayBuffer) from `offset` on, zeros after its end. Whoever
// registers it holds its buffer. It is read by the kernel, so that memory that went all the same is
// an error and not a crash: a loop may be at a page whose registration has just ended (test 33,
// C2).
class SharedSource final : public PageSource {
 public:
  // Fails where this process may not read itself (a seccomp filter).
  static Result<std::shared_ptr<const PageSource>> Create(Range memory, uint64_t offset) noexcept;
  Result<const uint8_t*> Load(uint64_t offset, uint64_t size,
                              uint8_t* buffer) const noexcept override;
  uint64_t End() const noexcept override { return memory_.Length() - offset_; }
  Range Memory() const noexcept override { return memory_; }

 private:
  SharedSource(Range memory, uint64_t offset) noexcept : memory_(memory), offset_(offset) {}

  const Range memory_;
  const uint64_t offset_;
};

// `length` bytes of a file from `offset` on, zeros after that. Bytes it does not have (any more)
// are an error: they are never made up.
class FileSource final : public PageSource {
 public:
  // EBADF: it is not open for reading.
  static Result<std::shared_ptr<const PageSource>> Create(FileDescriptor file, uint64_t offset,
                                                          uint64_t length) noexcept;
  Result<const uint8_t*> Load(uint64_t offset, uint64_t size,
                              uint8_t* buffer) const noexcept override;
  uint64_t End() const noexcept override { return length_; }

 private:
  FileSource(FileDescriptor file, uint64_t offset, uint64_t length) noexcept
      : file_(std::move(file)), offset_(offset), length_(length) {}

  const FileDescriptor file_;
  const uint64_t offset_;
  const uint64_t length_;
};

}  // namespace uffd

#endif  // UFFD_CORE_PAGE_SOURCE_H_
