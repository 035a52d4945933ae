// The ranges one userfaultfd serves: written by JavaScript threads, and by the fault loop when the
// kernel tells that a range moved or went away; looked up by the fault loop.
#ifndef UFFD_CORE_REGISTRATION_TABLE_H_
#define UFFD_CORE_REGISTRATION_TABLE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/given_back.h"
#include "core/mapping.h"
#include "core/page_allocator.h"
#include "core/page_loader.h"
#include "core/page_source.h"
#include "core/range.h"
#include "core/result.h"
#include "core/write_observer.h"
#include "core/written_pages.h"

namespace uffd {

// How the faults of a registration end. Never changes once registered.
struct Policy {
  uint64_t mode = 0;  // UFFDIO_REGISTER_MODE_*
  uint64_t page_size = 0;
  // A handler in JavaScript ends them, at most `deadline` after they were read; else the loop does.
  bool handler = false;
  std::chrono::milliseconds deadline{0};
  // The loop's own answer to a missing page: its bytes from here, else (none, or it failed) poison
  // or zeros. To a minor fault: poison, or the page that is there.
  std::shared_ptr<const PageSource> source;
  // The same source, where it is one that loads by itself. Its faults are not recorded.
  std::shared_ptr<PageLoader> loader;
  bool poison = false;
  // Whether the loop's answer to a missing page may be anything but zeros, or that to a minor one
  // anything but the page. Who loads by itself answers for its own (PageLoader).
  bool OwesBytes() const noexcept { return loader == nullptr && (source != nullptr || poison); }
  // One page of them: what UFFDIO_COPY reads where UFFDIO_ZEROPAGE is not to be had. Never freed.
  const uint8_t* zeros = nullptr;
  // Takes down the loop's write-protect faults, and nobody else is told of them.
  std::shared_ptr<WrittenPages> written;
  // Asked before an armed page is unprotected. Its faults are not recorded.
  std::shared_ptr<WriteObserver> observer;
};

// A range of addresses that one registration serves. It has one, until a part of it is moved.
struct Registration {
  uint32_t id = 0;
  Range range;
  uint64_t base = 0;    // what is at range.start was at this offset of the registered memory
  uint64_t ioctls = 0;  // 1 << _UFFDIO_*, what this kind of memory allows
  std::shared_ptr<const Policy> policy;
  std::shared_ptr<Mapping> memory;        // keeps memory of our own mapped while it is registered
  std::shared_ptr<GivenBack> given_back;  // where there is a source and no loader
  bool closing = false;                   // no handler gets its faults any more

  uint64_t OffsetOf(uint64_t address) const noexcept { return base + (address - range.start); }
  Range PageOf(uint64_t address) const noexcept {
    return Range{address, address + 1}.RoundOutward(policy->page_size);
  }
};

// The lock is held for a few moves, never across a system call, an allocation, the end of an entry
// or a touch of memory that may fault: the loop takes it while threads sleep. What it guards is not
// malloc's memory: the loop changes it too. Only growing allocates, so that a registration can end
// when there is no memory (test 37).
class RegistrationTable {
 public:
  // Its id. EBUSY: the range overlaps another one.
  Result<uint32_t> Add(Registration registration) noexcept;
  void SetIoctls(uint32_t id, uint64_t ioctls) noexcept;
  void SetClosing(uint32_t id, bool closing) noexcept;
  void Remove(uint32_t id) noexcept;
  // A part of a registration, unless it was moved since.
  void RemovePart(uint32_t id, Range range) noexcept;
  void Clear() noexcept;
  // The kernel took `range` away, or moved it to `to`. ENOMEM only where an entry is split.
  Status Cut(Range range) noexcept;
  Status Move(Range range, uint64_t to) noexcept;
  std::optional<Registration> Find(uint64_t address) const noexcept;
  // Whether all of it is still that registration's, at the offset it was registered with. Copies
  // nothing: may be called from a signal handler.
  bool Serves(uint32_t id, Range range) const noexcept;
  // Any part of it.
  std::optional<Registration> PartOf(uint32_t id) const noexcept;
  // Whether any of it is registered in one of these modes.
  bool Overlaps(Range range, uint64_t modes) const noexcept;
  // Whether a page of it that does not exist may be filled with anything but zeros.
  bool MayFill(Range range) const noexcept;
  // Whether pages are filled from any of it.
  bool IsSource(Range range) const noexcept;
  // Whether any page of it is filled from a source when it is missing.
  bool HasSource(Range range) const noexcept;
  // Tells the observers of registrations that it overlaps.
  void TellLost(Range range) const noexcept;
  // In address order, each as it is when its turn comes.
  template <typename Visit>
  void ForEach(Visit visit) const noexcept {
    for (auto entry = From(0); entry; entry = From(entry->range.end)) visit(*entry);
  }

 private:
  using Entries = std::vector<Registration, PageAllocator<Registration>>;
  Status Grow(size_t size) noexcept;
  // The first one that begins there or later.
  std::optional<Registration> From(uint64_t address) const noexcept;
  // Takes out the first one that matches: it ends when its taker lets go of it, without the lock.
  template <typename Matches>
  std::optional<Registration> Take(Matches matches) noexcept;
  Status ReplaceAll(Range range, std::optional<uint64_t> to) noexcept;
  Result<bool> ReplaceOne(Range range, std::optional<uint64_t> to) noexcept;
  void Insert(Registration registration) noexcept;

  std::mutex writers_;  // one change at a time
  mutable std::mutex lookup_;
  Entries entries_;  // in address order
  uint32_t next_id_ = 1;
};

}  // namespace uffd

#endif  // UFFD_CORE_REGISTRATION_TABLE_H_
