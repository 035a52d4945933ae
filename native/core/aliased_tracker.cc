#include "core/aliased_tracker.h"

#include <algorithm>
#include <utility>

#include "core/domain_tracker.h"

namespace uffd {
namespace {

// The same bytes of another mapping of the same file. Both begin with its first.
Range InMapping(Range range, const Mapping& from, const Mapping& to) noexcept {
  const uint64_t offset = range.start - from.AddressRange().start;
  const uint64_t start = to.AddressRange().start + offset;
  return {start, start + range.Length()};
}

}  // namespace

Result<std::unique_ptr<DirtyTracker>> AliasedTracker::Create(TrackingDomain* domain,
                                                             std::shared_ptr<Mapping> memory,
                                                             Range bytes,
                                                             uint64_t page_size) noexcept {
  std::unique_ptr<AliasedTracker> tracker(
      new AliasedTracker(domain, std::move(memory), bytes, page_size));
  Result<std::unique_ptr<DirtyTracker>> main = DomainTracker::Create(domain, bytes, page_size);
  if (!main) return main.Error();
  tracker->main_ = std::move(main.Value());
  const Status found = tracker->FindAliases();
  if (!found) return found.Error();
  tracker->pending_.Clear();
  return std::unique_ptr<DirtyTracker>(std::move(tracker));
}

AliasedTracker::AliasedTracker(TrackingDomain* domain, std::shared_ptr<Mapping> memory, Range bytes,
                               uint64_t page_size) noexcept
    : domain_(domain), memory_(std::move(memory)), bytes_(bytes), page_size_(page_size) {}

Status AliasedTracker::FindAliases() noexcept {
  const std::vector<std::shared_ptr<Mapping>> now = memory_->Aliases();
  // In this order: what is not among them counts as gone. One that goes from here on does so at the
  // next look, too.
  const uint64_t gone = memory_->AliasesGone();
  if (gone != std::exchange(gone_, gone)) pending_.Add(Pages());
  std::erase_if(aliases_, [&](const Alias& alias) {
    return std::find(now.begin(), now.end(), alias.mapping) == now.end();
  });
  // A SharedArrayBuffer may be longer than what is mapped over it.
  const Range shown = bytes_.Intersect(memory_->AddressRange());
  if (shown.Empty()) return Done{};
  for (const std::shared_ptr<Mapping>& mapping : now) {
    const bool known = std::any_of(aliases_.begin(), aliases_.end(),
                                   [&](const Alias& alias) { return alias.mapping == mapping; });
    if (known) continue;
    Result<std::unique_ptr<DirtyTracker>> tracker =
        DomainTracker::Create(domain_, InMapping(shown, *memory_, *mapping), page_size_);
    pending_.Add(Pages());
    // V8 may have unmapped it, which our part of it learns of later.
    if (!tracker && !mapping->IsStillThere()) continue;
    if (!tracker) return tracker.Error();
    aliases_.push_back({mapping, std::move(tracker.Value())});
  }
  return Done{};
}

Status AliasedTracker::LookAtAll(Look look, RangeSet* dirty) noexcept {
  Status done = FindAliases();
  if (!done) return done;
  done = (main_.get()->*look)(dirty);
  bool any_gone = false;
  for (const Alias& alias : aliases_) {
    if (!done) return done;
    RangeSet found;
    done = (alias.tracker.get()->*look)(&found);
    for (const Range& range : found.Ranges()) {
      dirty->Add(InMapping(range, *alias.mapping, *memory_));
    }
    // Asked after the look: addresses that were unmapped before it say nothing, or something about
    // other memory.
    if (alias.mapping->IsStillThere()) continue;
    any_gone = true;
    done = Done{};
  }
  // Which has all pages reported.
  if (done && any_gone) done = FindAliases();
  return done;
}

Status AliasedTracker::Collect(RangeSet* dirty) noexcept {
  // Kept when one of them fails.
  const Status done = LookAtAll(&DirtyTracker::Collect, &pending_);
  if (!done) return done;
  dirty->AddAll(std::exchange(pending_, RangeSet()));
  return Done{};
}

bool AliasedTracker::CollectPacked(PackedPages* dirty) noexcept {
  const auto is_alone = [this] { return aliases_.empty() && pending_.Empty(); };
  return is_alone() && FindAliases().Ok() && is_alone() && main_->CollectPacked(dirty);
}

Status AliasedTracker::Peek(RangeSet* dirty) noexcept {
  const Status done = LookAtAll(&DirtyTracker::Peek, dirty);
  if (done) dirty->AddAll(pending_);
  return done;
}

Result<bool> AliasedTracker::Settle(Range page) noexcept { return main_->Settle(page); }

// Between BeginSettling and EndSettling: mappings that were made meanwhile are found by the next
// look, which reports all pages then.
Result<bool> AliasedTracker::AnyWritten() noexcept {
  if (!pending_.Empty()) return true;
  Result<bool> any = main_->AnyWritten();
  for (const Alias& alias : aliases_) {
    if (!any || any.Value()) return any;
    any = alias.tracker->AnyWritten();
  }
  return any;
}

// Of an alias that is gone the next look has all pages reported.
bool AliasedTracker::IsDirty() noexcept {
  if (!FindAliases() || !pending_.Empty() || main_->IsDirty()) return true;
  return std::any_of(aliases_.begin(), aliases_.end(), [](const Alias& alias) {
    return alias.tracker->IsDirty() || !alias.mapping->IsStillThere();
  });
}

void AliasedTracker::MarkDirty(Range pages) noexcept { main_->MarkDirty(pages); }

Status AliasedTracker::Follow(Range bytes) noexcept {
  Status followed = main_->Follow(bytes);
  if (!followed) return followed;
  bytes_ = bytes;
  aliases_.clear();  // found anew, which reports all of it
  return Done{};
}

void AliasedTracker::TakeWrites(WriteLog* log) noexcept {
  main_->TakeWrites(log);
  for (const Alias& alias : aliases_) {
    WriteLog found;
    alias.tracker->TakeWrites(&found);
    for (const Write& write : found.Writes()) {
      const Range byte{write.address, write.address + 1};
      log->Add({InMapping(byte, *alias.mapping, *memory_).start, write.thread_id});
    }
    log->AddMissed(found.Missed());
  }
}

}  // namespace uffd
