#include "core/discard.h"

#include <memory>

#include "core/dirty_engine.h"
#include "core/lost_pages.h"
#include "core/registry.h"
#include "core/unpoison.h"

namespace uffd {
namespace {

// The kernel tells of pages that go only where it was told to take them: a registration of another
// mapping of the same memory would fill them from its source again (test 33).
Status DiscardWhereFilled(const Mapping& mapping, Range range) noexcept {
  const uint64_t offset = range.start - mapping.AddressRange().start;
  for (const std::shared_ptr<Mapping>& alias : mapping.Aliases()) {
    const uint64_t start = alias->AddressRange().start + offset;
    const Range pages{start, start + range.Length()};
    if (!Registry::Get().HasSource(pages)) continue;
    Status done = alias->Discard(pages);
    if (!done) return done;
  }
  return Done{};
}

}  // namespace

Status DiscardTracked(const Mapping* mapping, Range pages) noexcept {
  const auto discard = [&]() -> Status {
    if (mapping == nullptr) return Discard(pages);
    Status done = DiscardWhereFilled(*mapping, pages);
    if (done) done = mapping->Discard(pages);
    return done ? Unpoison(*mapping, pages) : done;
  };
  Status discarded = ChangeTracked(pages, discard);
  if (discarded) LostPages::Get().Forget(pages);
  return discarded;
}

}  // namespace uffd
