// Versions of a page table that nobody needs any more, until what they alone held is given back: by
// a helper, while the table's owner goes on, or by the owner, whoever is first.
#ifndef UFFD_CORE_DROPPED_VERSIONS_H_
#define UFFD_CORE_DROPPED_VERSIONS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "core/page_table.h"

namespace uffd {

// All calls are the owner's, who has the table for itself but between HandOver and Await.
class DroppedVersions {
 public:
  // `table` is used until this is destroyed.
  explicit DroppedVersions(PageTable* table) noexcept;
  ~DroppedVersions();
  DroppedVersions(const DroppedVersions&) = delete;
  DroppedVersions& operator=(const DroppedVersions&) = delete;

  // `keep`: see PageTable::GiveBack.
  void Add(const PageVersion& version, uint64_t keep) noexcept;
  // About what those that were added hold alone.
  void Expect(PageTable::Size size) noexcept { expected_ = size; }
  // What is still to be given back, about.
  PageTable::Size Expected() const noexcept { return expected_; }
  // Has a helper give them back, or does it at once.
  void HandOver() noexcept;
  // All are given back: by whom they were handed over to, if it is at it, and else by this thread.
  void Await() noexcept;

 private:
  class State;
  class Releasing;
  void Give() noexcept;

  const std::shared_ptr<State> state_;
  std::vector<PageVersion> versions_;  // added, and nobody else's yet
  uint64_t keep_ = 0;
  bool is_given_ = false;  // there were others, and they may not be given back yet
  PageTable::Size expected_;
};

}  // namespace uffd

#endif  // UFFD_CORE_DROPPED_VERSIONS_H_
