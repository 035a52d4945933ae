#include "dirty_tracker_wrap.h"

#include "convert.h"
#include "core/compare.h"
#include "core/dirty_engine.h"
#include "memory_wrap.h"

namespace uffd {
namespace {

// Closed by a getter of the caller's, in the middle of its call.
constexpr Failure kClosed{kClosedErrno, "tracker"};

DirtyEngine EngineOf(const Napi::Value& number) {
  return static_cast<DirtyEngine>(number.As<Napi::Number>().Int32Value());
}

Napi::Value WhyNot(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto why = WhyUnavailable(EngineOf(info[0]));
  if (!why) return env.Undefined();
  Napi::Object object = FailureObject(env, why->failure);
  object.Set("attempts", AttemptsArray(env, why->attempts));
  object.Set("missingFeatures", Napi::BigInt::New(env, why->missing_features));
  return object;
}

Napi::Value DifferingBytes(const Napi::CallbackInfo& info) {
  const Range live = ViewRange(info[0]);
  const Range copy = ViewRange(info[1]);
  RangeSet different;
  for (const Range& part : RangesOf(info[2], {0, live.Length()})) {
    AddDifferences(reinterpret_cast<uint8_t*>(live.start), reinterpret_cast<uint8_t*>(copy.start),
                   copy.Length(), part, &different);
  }
  return OffsetsArray(info.Env(), &different, {0, live.Length()});
}

}  // namespace

Napi::Function DirtyTrackerWrap::Define(Napi::Env env) {
  using Wrap = DirtyTrackerWrap;
  Napi::Function constructor = DefineClass(
      env, "DirtyTracker",
      {InstanceMethod<&Wrap::Open>("open"), InstanceMethod<&Wrap::Join>("join"),
       InstanceMethod<&Wrap::Collect>("collect"), InstanceMethod<&Wrap::Peek>("peek"),
       InstanceMethod<&Wrap::TakeWrites>("takeWrites"),
       InstanceMethod<&Wrap::MarkDirty>("markDirty"), InstanceMethod<&Wrap::PutBack>("putBack"),
       InstanceMethod<&Wrap::HoldWeakly>("holdWeakly"), InstanceMethod<&Wrap::Memory>("memory"),
       InstanceMethod<&Wrap::Close>("close")});
  constructor.Set("whyUnavailable", Napi::Function::New<WhyNot>(env, "whyUnavailable"));
  constructor.Set("differingBytes", Napi::Function::New<DifferingBytes>(env, "differingBytes"));
  return constructor;
}

DirtyTrackerWrap::DirtyTrackerWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<DirtyTrackerWrap>(info) {}

Napi::Value DirtyTrackerWrap::Open(const Napi::CallbackInfo& info) {
  const auto page_size = static_cast<uint64_t>(info[3].As<Napi::Number>().Int64Value());
  auto consumer =
      DirtyConsumer::Open(EngineOf(info[2]), ViewRange(info[0]), page_size, MappingOf(info[4]));
  if (!consumer) return FailureObject(info.Env(), consumer.Error());
  kept_alive_ = Napi::Persistent(info[1].As<Napi::Object>());
  consumer_ = std::move(consumer.Value());
  return info.Env().Undefined();
}

Napi::Value DirtyTrackerWrap::Join(const Napi::CallbackInfo& info) {
  const DirtyTrackerWrap* other = Unwrap(info[2].As<Napi::Object>());
  if (!other->consumer_) return FailureObject(info.Env(), kClosed);
  auto consumer = other->consumer_->Another(ViewRange(info[0]));
  if (!consumer) return FailureObject(info.Env(), consumer.Error());
  kept_alive_ = Napi::Persistent(info[1].As<Napi::Object>());
  consumer_ = std::move(consumer.Value());
  return info.Env().Undefined();
}

Napi::Value DirtyTrackerWrap::Collect(const Napi::CallbackInfo& info) {
  return ReadPages(info, &DirtyConsumer::Collect);
}

Napi::Value DirtyTrackerWrap::Peek(const Napi::CallbackInfo& info) {
  return ReadPages(info, &DirtyConsumer::Peek);
}

Napi::Value DirtyTrackerWrap::ReadPages(const Napi::CallbackInfo& info, Read read) {
  if (!consumer_) return FailureObject(info.Env(), kClosed);
  thread_local PackedPages dirty;
  const Status done = (consumer_.get()->*read)(ViewRange(info[0]), &dirty);
  if (!done) return FailureObject(info.Env(), done.Error());
  return PackedPagesString(info.Env(), dirty.End());
}

Napi::Value DirtyTrackerWrap::TakeWrites(const Napi::CallbackInfo& info) {
  if (!consumer_) return FailureObject(info.Env(), kClosed);
  const Range now = ViewRange(info[0]);
  return WritesObject(info.Env(), consumer_->TakeWrites(), now);
}

void DirtyTrackerWrap::MarkDirty(const Napi::CallbackInfo& info) {
  MarkPages(info, &DirtyConsumer::MarkDirty);
}

void DirtyTrackerWrap::PutBack(const Napi::CallbackInfo& info) {
  MarkPages(info, &DirtyConsumer::PutBack);
}

void DirtyTrackerWrap::MarkPages(const Napi::CallbackInfo& info, Mark mark) {
  if (!consumer_) return;
  for (const Range& part : RangesOf(info[1], ViewRange(info[0]))) (consumer_.get()->*mark)(part);
}

void DirtyTrackerWrap::HoldWeakly(const Napi::CallbackInfo& /*info*/) {
  if (consumer_) kept_alive_.Unref();
}

Napi::Value DirtyTrackerWrap::Memory(const Napi::CallbackInfo& info) {
  Napi::Value memory;
  if (consumer_) memory = kept_alive_.Value();
  return memory.IsEmpty() ? info.Env().Undefined() : memory;
}

void DirtyTrackerWrap::Close(const Napi::CallbackInfo& /*info*/) {
  consumer_.reset();
  kept_alive_.Reset();
}

}  // namespace uffd
