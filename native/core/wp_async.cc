#include "core/wp_async.h"

#include <cerrno>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "core/each_mapping.h"
#include "core/left_registrations.h"
#include "core/memory_map.h"

namespace uffd {
namespace {

class WpAsyncMarks final : public PageMarks {
 public:
  std::optional<Unavailable> WhyUnavailable() noexcept override {
    if (pagemap_) return std::nullopt;
    Userfaultfd::Opened opened = OpenAsyncTracking();
    if (opened.failure.error != 0) {
      return Unavailable{opened.failure, std::move(opened.attempts), opened.missing_features};
    }
    Result<Pagemap> pagemap = Pagemap::Create();
    if (!pagemap) return Unavailable{pagemap.Error(), std::move(opened.attempts), 0};
    uffd_ = std::move(opened.uffd);
    pagemap_ = std::move(pagemap.Value());
    return std::nullopt;
  }

  Status Arm(Range pages, uint64_t /*page_size*/) noexcept override {
    if (const auto why = WhyUnavailable()) return why->failure;
    RangeSet own;
    own.Add(pages);
    std::erase_if(kept_, [&](const Kept& each) {
      const Range part = each.pages.Intersect(pages);
      if (part.Empty()) return false;
      if (!each.keeper->Arm(part)) return true;
      own.Remove(part);
      return false;
    });
    for (const Range& part : own.Ranges()) {
      const Status armed = ArmOwn(part);
      if (!armed) return armed;
    }
    return Done{};
  }

  void Disarm(Range pages) noexcept override {
    RangeSet own;
    own.Add(pages);
    for (const Kept& each : std::exchange(kept_, {})) {
      const Range part = each.pages.Intersect(pages);
      RangeSet rest;
      rest.Add(each.pages);
      if (!part.Empty()) {
        each.keeper->Disarm(part);
        rest.Remove(part);
        own.Remove(part);
      }
      for (const Range& left : rest.Ranges()) kept_.push_back({left, each.keeper});
    }
    for (const Range& part : own.Ranges()) End(part);
  }

  void Entrust(Range pages, const std::shared_ptr<PageKeeper>& keeper) noexcept override {
    kept_.push_back({pages, keeper});
  }

  Status Written(Range pages, Rearm rearm, RangeSet* written) noexcept override {
    return pagemap_->Written(pages, rearm, written);
  }

  Result<bool> CollectPacked(Range pages, PackedPages* written) noexcept override {
    const Status collected = pagemap_->CollectPacked(pages, written);
    if (!collected) return collected.Error();
    return true;
  }

  Result<bool> AnyWritten(Range pages, Rearm rearm) noexcept override {
    return pagemap_->AnyWritten(pages, rearm);
  }

  Result<bool> AnyWrittenWithHelp(Range pages) noexcept override {
    return pagemap_->AnyWrittenWithHelp(pages);
  }

 private:
  struct Kept {
    Range pages;
    std::shared_ptr<PageKeeper> keeper;
  };

  Status ArmOwn(Range pages) noexcept {
    const bool none_left = EndLeft(pages);
    const Result<uint64_t> registered = uffd_.Register(pages, UFFDIO_REGISTER_MODE_WP);
    // What could not be registered is left alone: it may be another userfaultfd's, and kernels
    // before 6.17 let anybody unregister that.
    if (!registered) return registered.Error();
    if (!none_left) ForgetLeft(pages);  // it was left by this engine, then
    Status armed = uffd_.WriteProtect(pages, UFFDIO_WRITEPROTECT_MODE_WP);
    if (!armed) End(pages);
    return armed;
  }

  void End(Range pages) noexcept {
    const Status ended = UnregisterEach(&uffd_, pages);
    if (ended || ended.Error().error != ENOMEM) return;
    LeaveRegistered(pages, [this](Range left) { return EndLate(left); });
  }

  // Somebody else's memory may be there by now, and kernels before 6.17 let anybody unregister it.
  Status EndLate(Range left) noexcept {
    Status ended = Done{};
    ForEachMapping(left, [&](Range part) {
      if (!Pagemap::IsTracked(part)) return;
      const Status each = uffd_.Unregister(part);
      if (!each) ended = each;
    });
    return ended;
  }

  Userfaultfd uffd_;
  std::optional<Pagemap> pagemap_;
  std::vector<Kept> kept_;  // disjoint
};

}  // namespace

Userfaultfd::Opened OpenAsyncTracking() noexcept {
  OpenRequest request;
  request.required_features =
      UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC;
  request.optional_features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  // No fault ever reaches user space, so the least privileged descriptor does.
  request.user_mode = UserMode::kOnly;
  Userfaultfd::Opened opened = Userfaultfd::Open(request);
  if (opened.failure.error == 0 || opened.missing_features != 0) return opened;
  // A container may refuse the system call and pass the device.
  request.user_mode = UserMode::kNever;
  Userfaultfd::Opened privileged = Userfaultfd::Open(request);
  privileged.attempts.insert(privileged.attempts.begin(), opened.attempts.begin(),
                             opened.attempts.end());
  return privileged;
}

TrackingDomain& WpAsyncDomain() noexcept {
  alignas(WpAsyncMarks) static std::byte marks[sizeof(WpAsyncMarks)];
  alignas(TrackingDomain) static std::byte storage[sizeof(TrackingDomain)];
  static auto* domain = new (storage) TrackingDomain(new (marks) WpAsyncMarks());
  return *domain;
}

}  // namespace uffd
