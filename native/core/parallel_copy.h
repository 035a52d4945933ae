// Copies of many pages, made by two threads: the one that says which, and a helper of its own where
// there is an idle processor.
#ifndef UFFD_CORE_PARALLEL_COPY_H_
#define UFFD_CORE_PARALLEL_COPY_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/helper.h"
#include "core/page_copy.h"

namespace uffd {

class ParallelCopy {
 public:
  ParallelCopy() noexcept;
  ~ParallelCopy();
  ParallelCopy(const ParallelCopy&) = delete;
  ParallelCopy& operator=(const ParallelCopy&) = delete;

  // So many pages are going to be added, perhaps: a helper needs a moment until it is there.
  void Expect(uint64_t pages) noexcept;
  // A whole page, to be copied until Finish returns; pages in a row, to where there are as many,
  // are copied as one. The caller has touched `from`, so that the helper has no faults but of pages
  // that are given back meanwhile.
  void Add(uint8_t* to, const uint8_t* from) noexcept;
  void Finish() noexcept;

 private:
  static constexpr size_t kAtOnce = 32;
  struct Batch {
    PageCopy runs[kAtOnce];
    size_t count = 0;
    uint64_t pages = 0;

    void Copy() const noexcept { CopyPages(runs, count); }
    void Clear() noexcept {
      count = 0;
      pages = 0;
    }
  };
  class Queue;

  void HandOver() noexcept;
  void StartHelper() noexcept;
  void NoteHelped(bool helped) noexcept;

  Batch next_;
  // Since the last Finish.
  uint64_t expected_ = 0;
  uint64_t added_ = 0;
  const std::unique_ptr<Queue> queue_;
  Helper helper_;
  // How often to do without one, since the last was more trouble than help; twice as often when the
  // next is as well. That there was none to be had is no trouble: it is asked again.
  unsigned alone_ = 0;
  unsigned alone_next_ = 1;
  Helper::Chance chance_;
};

}  // namespace uffd

#endif  // UFFD_CORE_PARALLEL_COPY_H_
