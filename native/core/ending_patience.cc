#include "core/ending_patience.h"

#include "core/registry.h"

namespace uffd {
namespace {

// What a loop may take to end open faults with what they would read without it, too.
constexpr std::chrono::milliseconds kMoment(200);
// With bytes: on a machine with too much to do its turn may be long in coming.
constexpr std::chrono::seconds kTurn(5);
constexpr std::chrono::seconds kSlowSource(30);
constexpr std::chrono::milliseconds kAtTheEnd(600);
constexpr int kMostRenewals = 1000;

}  // namespace

EndingPatience::EndingPatience(const FaultServer* server, bool owes, Haste haste,
                               Clock::time_point since) noexcept
    : server_(server),
      owes_(owes),
      haste_(haste),
      since_(since),
      seen_steps_(server->LoadSteps()) {}

EndingPatience::Clock::duration EndingPatience::Limit() const noexcept {
  if (!owes_) return kMoment;
  if (haste_ == Haste::kEnding) return kAtTheEnd;
  return server_->IsLoading() ? Clock::duration(kSlowSource) : Clock::duration(kTurn);
}

bool EndingPatience::Holds() noexcept {
  const auto now = Clock::now();
  const uint64_t steps = server_->LoadSteps();
  if (haste_ == Haste::kNone) {
    const bool process_ends = Registry::Get().ProcessEnds();
    if (process_ends) haste_ = Haste::kEnding;
    const bool renewed = steps != seen_steps_ && renewals_++ < kMostRenewals;
    if (process_ends || renewed) since_ = now;
  }
  seen_steps_ = steps;
  return now - since_ < Limit();
}

}  // namespace uffd
