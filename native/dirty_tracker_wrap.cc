#include "dirty_tracker_wrap.h"

#include "convert.h"
#include "core/mapping.h"
#include "core/wp_async_tracker.h"

namespace uffd {
namespace {

Napi::Value WhyUnavailable(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto why = WpAsyncTracker::WhyUnavailable();
  if (!why) return env.Undefined();
  Napi::Object object = FailureObject(env, why->failure);
  object.Set("attempts", AttemptsArray(env, why->attempts));
  object.Set("missingFeatures", Napi::BigInt::New(env, why->missing_features));
  return object;
}

}  // namespace

Napi::Function DirtyTrackerWrap::Define(Napi::Env env) {
  using Wrap = DirtyTrackerWrap;
  Napi::Function constructor = DefineClass(
      env, "DirtyTracker",
      {InstanceMethod<&Wrap::Open>("open"), InstanceMethod<&Wrap::Collect>("collect"),
       InstanceMethod<&Wrap::Peek>("peek"), InstanceMethod<&Wrap::MarkDirty>("markDirty"),
       InstanceMethod<&Wrap::Close>("close")});
  constructor.Set("whyUnavailable", Napi::Function::New<WhyUnavailable>(env, "whyUnavailable"));
  return constructor;
}

DirtyTrackerWrap::DirtyTrackerWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<DirtyTrackerWrap>(info) {}

Napi::Value DirtyTrackerWrap::Open(const Napi::CallbackInfo& info) {
  bytes_ = ViewRange(info[0]);
  auto tracker = WpAsyncTracker::Create(bytes_.RoundOutward(PageSize()));
  if (!tracker) return FailureObject(info.Env(), tracker.Error());
  kept_alive_ = Napi::Persistent(info[1].As<Napi::Object>());
  tracker_ = std::move(tracker.Value());
  return info.Env().Undefined();
}

Napi::Value DirtyTrackerWrap::Collect(const Napi::CallbackInfo& info) {
  return Read(info, &DirtyTracker::Collect);
}

Napi::Value DirtyTrackerWrap::Peek(const Napi::CallbackInfo& info) {
  return Read(info, &DirtyTracker::Peek);
}

Napi::Value DirtyTrackerWrap::Read(const Napi::CallbackInfo& info,
                                   Status (DirtyTracker::*read)(RangeSet* dirty) noexcept) {
  if (!tracker_) return FailureObject(info.Env(), {kClosedErrno, "ioctl(PAGEMAP_SCAN)"});
  const Range now = ViewRange(info[0]);
  if (now.start != bytes_.start || now.end != bytes_.end) {
    const Status followed = tracker_->Follow(now.RoundOutward(PageSize()));
    if (!followed) return FailureObject(info.Env(), followed.Error());
    // Growth inside the last page: its bytes are new although the page is not.
    if (now.start == bytes_.start && now.end > bytes_.end && bytes_.end % PageSize() != 0) {
      tracker_->MarkDirty(Range{bytes_.end, bytes_.end + 1}.RoundOutward(PageSize()));
    }
    bytes_ = now;
  }
  RangeSet dirty;
  const Status done = (tracker_.get()->*read)(&dirty);
  if (!done) return FailureObject(info.Env(), done.Error());
  return OffsetsArray(info.Env(), &dirty, now);
}

void DirtyTrackerWrap::MarkDirty(const Napi::CallbackInfo& info) {
  if (!tracker_) return;
  const auto offsets = info[0].As<Napi::Float64Array>();
  for (size_t i = 0; i + 1 < offsets.ElementLength(); i += 2) {
    const uint64_t start = bytes_.start + static_cast<uint64_t>(offsets[i]);
    const uint64_t end = start + static_cast<uint64_t>(offsets[i + 1]);
    tracker_->MarkDirty(Range{start, end}.RoundOutward(PageSize()));
  }
}

void DirtyTrackerWrap::Close(const Napi::CallbackInfo& /*info*/) {
  tracker_.reset();
  kept_alive_.Reset();
}

}  // namespace uffd
