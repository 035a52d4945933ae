#include "core/consistent_copy.h"

#include <algorithm>
#include <cerrno>

#include "core/mapping.h"
#include "core/quiet_time.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// Enough for writers that pause at all.
constexpr int kPasses = 64;
// To look through so much takes about as long as to ask what one thread did.
constexpr uint64_t kBytesPerThread = uint64_t{6} << 20;

// The pages in which all bytes are the memory's.
Range OwnPages(Range bytes) noexcept {
  const uint64_t page = PageSize();
  const Range own{(bytes.start + page - 1) & ~(page - 1), bytes.end & ~(page - 1)};
  return own.Empty() ? Range{} : own;
}

}  // namespace

std::vector<Range> ConsistentCopy::SharedPagesOf(Range bytes) {
  std::vector<Range> pages;
  if (bytes.Empty()) return pages;
  const Range all = bytes.RoundOutward(PageSize());
  const Range first{all.start, all.start + PageSize()};
  const Range last{all.end - PageSize(), all.end};
  if (!bytes.Contains(first)) pages.push_back(first);
  if (!bytes.Contains(last) && last.start != first.start) pages.push_back(last);
  return pages;
}

ConsistentCopy::ConsistentCopy(std::vector<Memory> memories, Sink* sink, Writers writers) noexcept
    : memories_(std::move(memories)), sink_(sink), collected_(memories_.size()) {
  uint64_t bytes = 0;
  for (const Memory& memory : memories_) bytes += memory.bytes.Length();
  if (writers == Writers::kThreads &&
      std::all_of(memories_.begin(), memories_.end(),
                  [](const Memory& memory) { return memory.tracker->AllowsQuietTime(); })) {
    worth_asking_ = bytes / kBytesPerThread;
  }
  for (const Memory& memory : memories_) {
    for (const Range& page : SharedPagesOf(memory.bytes)) shared_.push_back({page, memory.tracker});
  }
  const auto before = [](const SharedPage& a, const SharedPage& b) {
    return a.page.start < b.page.start;
  };
  std::sort(shared_.begin(), shared_.end(), before);
  const auto same = [](const SharedPage& a, const SharedPage& b) {
    return a.page.start == b.page.start;
  };
  shared_.erase(std::unique(shared_.begin(), shared_.end(), same), shared_.end());
}

Status ConsistentCopy::Run() noexcept {
  const Status done = Repeat();
  if (!done) PutBack();
  return done;
}

void ConsistentCopy::PutBack() noexcept {
  for (size_t i = 0; i < memories_.size(); i++) {
    for (const Range& pages : collected_[i].Ranges()) memories_[i].tracker->MarkDirty(pages);
    // Settled, perhaps, which is a collect as well.
    for (const Range& page : SharedPagesOf(memories_[i].bytes)) {
      memories_[i].tracker->MarkDirty(page);
    }
  }
}

// When nobody could write while a pass was made, or nothing in any memory was written since the
// pass before, then at the instant after it every page equalled its copy.
//
// The first and last page of a buffer of V8's hold other data too, and are written all the time
// (the vectors here may lie there). When only those were written, and the memory's bytes in them
// equal the copy, it is still to be shown that all did so at one time.
Status ConsistentCopy::Repeat() noexcept {
  for (int i = 0; i < kPasses; i++) {
    if (i > 0 && !AnyDirty()) return Done{};
    QuietTime quiet;
    const bool begun = worth_asking_ > 0 && quiet.Begin(worth_asking_);
    const Result<Pass> pass = CopyOnce();
    if (!pass) return pass.Error();
    UFFD_BARRIER(i % 2 == 0 ? "copied, even pass" : "copied, odd pass", nullptr);
    if (begun) UFFD_BARRIER("copied in quiet", nullptr);
    if (begun && quiet.Lasted()) return Done{};
    if (pass.Value().changed) continue;
    if (!pass.Value().neighbours_wrote) return Done{};
    const Result<bool> still = HeldStill();
    if (!still) return still.Error();
    if (still.Value()) return Done{};
  }
  return Failure{EAGAIN, "snapshot"};
}

Result<ConsistentCopy::Pass> ConsistentCopy::CopyOnce() noexcept {
  Pass pass;
  Status done = Done{};
  for (size_t i = 0; i < memories_.size() && done; i++) done = CopyWritten(i, &pass);
  sink_->FinishCopies();
  if (!done) return done.Error();
  return pass;
}

Status ConsistentCopy::CopyWritten(size_t memory, Pass* pass) noexcept {
  const Range bytes = memories_[memory].bytes;
  RangeSet dirty;
  const Status collected = memories_[memory].tracker->Collect(&dirty);
  if (!collected) return collected;
  collected_[memory].AddAll(dirty);
  for (const Range& page : SharedPagesOf(bytes)) {
    if (!dirty.Any([&](const Range& range) { return range.Overlaps(page); })) continue;
    const Status copied = CopyShared(memory, page, pass);
    if (!copied) return copied;
  }
  RangeSet own = dirty.Within(OwnPages(bytes));
  if (own.Empty()) return Done{};
  pass->changed = true;
  return sink_->Copy(memory, own.Ranges());
}

Status ConsistentCopy::CopyShared(size_t memory, Range page, Pass* pass) noexcept {
  if (!sink_->Differs(memory, page)) {
    pass->neighbours_wrote = true;
    return Done{};
  }
  pass->changed = true;
  const Status prepared = sink_->Prepare(memory, page);
  if (prepared) sink_->Update(memory, page);
  return prepared;
}

bool ConsistentCopy::AnyDirty() const noexcept {
  return std::any_of(memories_.begin(), memories_.end(),
                     [](const Memory& memory) { return memory.tracker->IsDirty(); });
}

template <typename Visit>
void ConsistentCopy::ForEachShared(Visit visit) const noexcept {
  for (size_t i = 0; i < memories_.size(); i++) {
    // What one memory shares may lie in the midst of another.
    const Range pages = memories_[i].bytes.RoundOutward(PageSize());
    auto each = std::partition_point(shared_.begin(), shared_.end(), [&](const SharedPage& shared) {
      return shared.page.start < pages.start;
    });
    for (; each != shared_.end() && each->page.start < pages.end; ++each) {
      if (!visit(i, each->page)) return;
    }
  }
}

Result<bool> ConsistentCopy::HeldStill() noexcept {
  Status prepared = Done{};
  ForEachShared([&](size_t memory, Range page) {
    prepared = sink_->Prepare(memory, page);
    return prepared.Ok();
  });
  if (!prepared) return prepared.Error();
  DirtyTracker* any = shared_.front().tracker;
  const Status begun = any->BeginSettling(shared_.size());
  if (!begun) return begun.Error();
  const Result<bool> still = SettleAndCompare();
  any->EndSettling();
  return still;
}

// Re-arms the shared pages, compares them, and asks whether anything was written meanwhile. Writes
// nothing but the stack, the copies and the trackers' own pages: the heap may be what is watched
// (tests 60 and 62, many buffers in one page).
Result<bool> ConsistentCopy::SettleAndCompare() noexcept {
  for (const SharedPage& each : shared_) {
    const Result<bool> settled = each.tracker->Settle(each.page);
    if (!settled) return settled.Error();
  }
  // What is copied was re-armed before, so the next pass sees when it changes again.
  bool changed = false;
  ForEachShared([&](size_t memory, Range page) {
    if (!sink_->Differs(memory, page)) return true;
    sink_->Update(memory, page);
    changed = true;
    return true;
  });
  if (changed) return false;
  for (const Memory& memory : memories_) {
    const Result<bool> written = memory.tracker->AnyWritten();
    if (!written || written.Value()) return written ? Result<bool>(false) : written;
  }
  return true;
}

}  // namespace uffd
