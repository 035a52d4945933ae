// What knows which pages were written since they were armed: the kernel's own marks, or a bitmap
// that a fault loop keeps. One implementation per engine; a TrackingDomain shares it out among
// trackers and calls it under its lock.
#ifndef UFFD_CORE_PAGE_MARKS_H_
#define UFFD_CORE_PAGE_MARKS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/packed_pages.h"
#include "core/page_keeper.h"
#include "core/pagemap.h"
#include "core/range.h"
#include "core/result.h"
#include "core/userfaultfd.h"
#include "core/write_log.h"

namespace uffd {

class PageMarks {
 public:
  using Rearm = Pagemap::Rearm;

  // What stands in the way of the engine on this machine, if anything.
  struct Unavailable {
    Failure failure;
    std::vector<Attempt> attempts;
    uint64_t missing_features = 0;
  };

  virtual ~PageMarks() = default;

  // Nothing when the engine works. Tried again at each call until it does: what was in the way (no
  // descriptor left, say) may be gone.
  virtual std::optional<Unavailable> WhyUnavailable() noexcept = 0;
  // Registers whole pages, which are clean from here on; also those that are registered already.
  // All or nothing. EBUSY: another userfaultfd has a part of it.
  virtual Status Arm(Range pages, uint64_t page_size) noexcept = 0;
  virtual void Disarm(Range pages) noexcept = 0;
  // Adds the pages written since they were last armed to `written`. After a failure their state is
  // unknown: some may be re-armed already.
  virtual Status Written(Range pages, Rearm rearm, RangeSet* written) noexcept = 0;
  // The same, re-armed and straight into what is handed over. False: nothing was done, this engine
  // has more to do for it.
  virtual Result<bool> CollectPacked(Range /*pages*/, PackedPages* /*written*/) noexcept {
    return false;
  }
  virtual Result<bool> AnyWritten(Range pages, Rearm rearm) noexcept = 0;
  // The same without re-arming, as fast as it can be; it may allocate.
  virtual Result<bool> AnyWrittenWithHelp(Range pages) noexcept {
    return AnyWritten(pages, Rearm::kNo);
  }
  // The protection of these pages may be gone: the next collect arms them again.
  virtual void NoteUnarmed(Range /*pages*/) noexcept {}
  // `keeper` has these pages registered from now on.
  virtual void Entrust(Range /*pages*/, const std::shared_ptr<PageKeeper>& /*keeper*/) noexcept {}
  // Moves what is known of the writes to collected pages to `log`.
  virtual void TakeWrites(Range /*pages*/, WriteLog* /*log*/) noexcept {}
};

}  // namespace uffd

#endif  // UFFD_CORE_PAGE_MARKS_H_
