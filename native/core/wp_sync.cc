#include "core/wp_sync.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <utility>

#include "core/left_registrations.h"
#include "core/mapping.h"
#include "core/no_reader.h"
#include "core/session.h"
#include "core/written_pages.h"

namespace uffd {
namespace {

// Nobody reads the events of this session: there are none.
OpenRequest RequestOf(UserMode user_mode) noexcept {
  OpenRequest request;
  request.required_features = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
  request.optional_features = UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                              UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EXACT_ADDRESS;
  request.user_mode = user_mode;
  return request;
}

class WpSyncMarks final : public PageMarks {
 public:
  explicit WpSyncMarks(UserMode user_mode) noexcept : user_mode_(user_mode) {}

  std::optional<Unavailable> WhyUnavailable() noexcept override {
    if (session_) return std::nullopt;
    Userfaultfd::Opened opened = Userfaultfd::Open(RequestOf(user_mode_));
    if (opened.failure.error == 0) return std::nullopt;
    return Unavailable{opened.failure, std::move(opened.attempts), opened.missing_features};
  }

  Status Arm(Range pages, uint64_t page_size) noexcept override {
    const Status open = EnsureOpen();
    if (!open) return open;
    Unregister(pages);
    Result<std::shared_ptr<WrittenPages>> written = WrittenPages::Create(pages, page_size);
    if (!written) return written.Error();
    auto policy = std::make_shared<Policy>();
    policy->mode = UFFDIO_REGISTER_MODE_WP;
    policy->page_size = page_size;
    policy->written = written.Value();
    const auto registered = session_->Register(pages, policy, nullptr);
    Status armed = Done{};
    if (registered) {
      parts_[pages.start] = {pages, page_size, std::move(written.Value())};
      armed = ArmPages(pages, page_size);
      if (!armed) Unregister(pages);
    } else {
      armed = registered.Error();
    }
    CloseIfUnused();
    return armed;
  }

  void Disarm(Range pages) noexcept override {
    Unregister(pages);
    CloseIfUnused();
  }

  // EPERM: a part is not registered (its session was released by the watchdog).
  Status Written(Range pages, Rearm rearm, RangeSet* written) noexcept override {
    if (pages.Empty()) return Done{};
    if (!session_ || session_->Released()) return Failure{EPERM, "ioctl(UFFDIO_WRITEPROTECT)"};
    uint64_t covered = pages.start;
    for (auto each = FirstPart(pages); each != parts_.end() && each->first < pages.end; ++each) {
      const Part& part = each->second;
      if (part.range.start > covered) break;
      const Range both = part.range.Intersect(pages);
      const Status done = WrittenIn(part, both, rearm, written);
      if (!done) return done;
      covered = both.end;
    }
    if (covered < pages.end) return Failure{EPERM, "ioctl(UFFDIO_WRITEPROTECT)"};
    return Done{};
  }

  Result<bool> AnyWritten(Range pages, Rearm rearm) noexcept override {
    RangeSet written;
    const Status looked = Written(pages, rearm, &written);
    if (!looked) return looked.Error();
    return !written.Empty();
  }

  void NoteUnarmed(Range pages) noexcept override {
    ForEachPart(pages, [](const Part& part, Range both) { part.written->NoteAll(both); });
  }

  void TakeWrites(Range pages, WriteLog* log) noexcept override {
    ForEachPart(pages, [&](const Part& part, Range both) { part.written->TakeWrites(both, log); });
  }

 private:
  // What is registered. Those that were cut out of one registration share its bitmap.
  struct Part {
    Range range;
    uint64_t page_size = 0;
    std::shared_ptr<WrittenPages> written;
  };
  using Parts = std::map<uint64_t, Part>;

  Status EnsureOpen() noexcept {
    if (session_ && !session_->Released()) return Done{};
    // The watchdog released the last one. What it had armed is found missing by the next collect.
    parts_.clear();
    session_ = nullptr;
    Session::Opened opened = Session::Open(RequestOf(user_mode_), NoReader());
    if (!opened.session) return opened.failure;
    Result<Pagemap> pagemap = Pagemap::Create();
    session_ = std::move(opened.session);
    pagemap_ = pagemap ? std::optional<Pagemap>(std::move(pagemap.Value())) : std::nullopt;
    sees_protection_ = pagemap_ && SeesProtection();
    return Done{};
  }

  // Whether this kernel tells what is armed: asked of a page that is.
  bool SeesProtection() noexcept {
    Result<std::shared_ptr<Mapping>> memory = Mapping::Anonymous(PageSize());
    if (!memory) return false;
    const Range page = memory.Value()->AddressRange();
    auto policy = std::make_shared<Policy>();
    policy->mode = UFFDIO_REGISTER_MODE_WP;
    policy->page_size = PageSize();
    if (!session_->Register(page, std::move(policy), nullptr)) return false;
    const bool sees = ArmPages(page, PageSize()).Ok() && Pagemap::IsArmed(page.start);
    static_cast<void>(session_->Unregister(page).Ok());
    return sees;
  }

  void Unregister(Range pages) noexcept {
    bool any = false;
    auto each = FirstPart(pages);
    while (each != parts_.end() && each->first < pages.end) {
      const Part part = each->second;
      each = parts_.erase(each);
      const Range before{part.range.start, std::max(pages.start, part.range.start)};
      const Range after{std::min(pages.end, part.range.end), part.range.end};
      if (!before.Empty()) parts_[before.start] = {before, part.page_size, part.written};
      if (!after.Empty()) parts_[after.start] = {after, part.page_size, part.written};
      any = true;
    }
    if (!any || session_->Unregister(pages)) return;
    // Its loop goes on to serve it.
    LeaveRegistered(pages, [weak = session_->weak_from_this()](Range left) -> Status {
      const std::shared_ptr<Session> session = weak.lock();
      return session ? session->Unregister(left) : Status(Done{});
    });
  }

  // A session has a thread, which is not kept for nothing.
  void CloseIfUnused() noexcept {
    if (!parts_.empty() || !session_) return;
    session_->Release();
    session_ = nullptr;
  }

  // Without WP_UNPOPULATED the kernel arms only pages that exist, and says success (B15).
  Status ArmPages(Range pages, uint64_t page_size) noexcept {
    if ((session_->Features() & UFFD_FEATURE_WP_UNPOPULATED) == 0) {
      const Status populated = Populate(pages, page_size);
      if (!populated) return populated;
    }
    return session_->Arm(pages);
  }

  Status WrittenIn(const Part& part, Range pages, Rearm rearm, RangeSet* written) noexcept {
    // Before the bits are taken: a page found unarmed here is noted by then, or was not written.
    RangeSet unarmed;
    if (sees_protection_) {
      const Status looked = pagemap_->Unarmed(pages, &unarmed);
      if (!looked) return looked;
    }
    if (rearm == Rearm::kNo) {
      part.written->Look(pages, written);
      written->AddAll(unarmed);
      return Done{};
    }
    const auto arm = [&](Range run) { return ArmPages(run, part.page_size); };
    RangeSet taken;
    Status done = part.written->Take(pages, &taken, arm);
    if (!done) return done;
    unarmed.RemoveAll(&taken);
    for (const Range& lost : unarmed.Ranges()) {
      done = arm(lost);
      if (!done) return done;
    }
    written->AddAll(taken);
    written->AddAll(unarmed);
    return Done{};
  }

  Parts::iterator FirstPart(Range pages) noexcept {
    auto part = parts_.upper_bound(pages.start);
    if (part != parts_.begin() && std::prev(part)->second.range.end > pages.start) --part;
    return part;
  }

  template <typename Visit>
  void ForEachPart(Range pages, Visit visit) noexcept {
    for (auto each = FirstPart(pages); each != parts_.end() && each->first < pages.end; ++each) {
      visit(each->second, each->second.range.Intersect(pages));
    }
  }

  const UserMode user_mode_;
  std::shared_ptr<Session> session_;
  std::optional<Pagemap> pagemap_;
  bool sees_protection_ = false;
  Parts parts_;
};

}  // namespace

TrackingDomain& WpSyncDomain(UserMode user_mode) noexcept {
  static auto* privileged = new TrackingDomain(new WpSyncMarks(UserMode::kNever));
  static auto* unprivileged = new TrackingDomain(new WpSyncMarks(UserMode::kOnly));
  return user_mode == UserMode::kOnly ? *unprivileged : *privileged;
}

}  // namespace uffd
