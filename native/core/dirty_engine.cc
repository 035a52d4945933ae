#include "core/dirty_engine.h"

#include "core/aliased_tracker.h"
#include "core/compare_tracker.h"
#include "core/domain_tracker.h"
#include "core/wp_async.h"
#include "core/wp_sync.h"

namespace uffd {
namespace {

// Null for `compare`, whose trackers share nothing.
TrackingDomain* DomainOf(DirtyEngine engine) noexcept {
  switch (engine) {
    case DirtyEngine::kWpAsync:
      return &WpAsyncDomain();
    case DirtyEngine::kWpSync:
      return &WpSyncDomain(UserMode::kNever);
    case DirtyEngine::kWpSyncUserMode:
      return &WpSyncDomain(UserMode::kOnly);
    case DirtyEngine::kCompare:
      break;
  }
  return nullptr;
}

}  // namespace

std::optional<PageMarks::Unavailable> WhyUnavailable(DirtyEngine engine) noexcept {
  TrackingDomain* const domain = DomainOf(engine);
  return domain == nullptr ? std::nullopt : domain->WhyUnavailable();
}

Result<std::unique_ptr<DirtyTracker>> CreateDirtyTracker(
    DirtyEngine engine, Range bytes, uint64_t page_size,
    const std::shared_ptr<Mapping>& memory) noexcept {
  TrackingDomain* const domain = DomainOf(engine);
  const bool has_aliases = memory && memory->IsShared();
  if (domain == nullptr) return CompareTracker::Create(bytes, page_size, has_aliases);
  if (has_aliases) {
    return AliasedTracker::Create(domain, memory, bytes, page_size);
  }
  return DomainTracker::Create(domain, bytes, page_size);
}

Status ChangeTracked(Range pages, const std::function<Status()>& change) noexcept {
  return WpAsyncDomain().Change(pages, [&] {
    return WpSyncDomain(UserMode::kNever).Change(pages, [&] {
      return WpSyncDomain(UserMode::kOnly).Change(pages, change);
    });
  });
}

Result<std::unique_ptr<DirtyTracker>> TrackByWpAsync(
    Range bytes, uint64_t page_size, const std::shared_ptr<Mapping>& /*copy*/) noexcept {
  return DomainTracker::Create(&WpAsyncDomain(), bytes, page_size);
}

Result<std::unique_ptr<DirtyTracker>> TrackByCompare(
    Range bytes, uint64_t /*page_size*/, const std::shared_ptr<Mapping>& copy) noexcept {
  return CompareTracker::Against(copy, bytes);
}

}  // namespace uffd
