#include "snapshot_wrap.h"

#include "convert.h"
#include "core/dirty_engine.h"

namespace uffd {
namespace {

// Closed by a getter of the caller's, in the middle of its call.
constexpr Failure kClosed{kClosedErrno, "snapshot"};

Napi::Number Count(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

}  // namespace

Napi::Function SnapshotWrap::Define(Napi::Env env) {
  using Wrap = SnapshotWrap;
  return DefineClass(
      env, "Snapshot",
      {InstanceMethod<&Wrap::Take>("take"), InstanceMethod<&Wrap::Restore>("restore"),
       InstanceMethod<&Wrap::Diff>("diff"), InstanceMethod<&Wrap::Read>("read"),
       InstanceMethod<&Wrap::Close>("close")});
}

SnapshotWrap::SnapshotWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SnapshotWrap>(info) {}

Napi::Value SnapshotWrap::Take(const Napi::CallbackInfo& info) {
  const auto engine = static_cast<DirtyEngine>(info[2].As<Napi::Number>().Int32Value());
  auto snapshot = Snapshot::Take(
      ViewRanges(info[0]), engine == DirtyEngine::kCompare ? &TrackByCompare : &TrackByWpAsync);
  if (!snapshot) return FailureObject(info.Env(), snapshot.Error());
  kept_alive_ = Napi::Persistent(info[1].As<Napi::Object>());
  snapshot_ = std::move(snapshot.Value());
  return info.Env().Undefined();
}

Napi::Value SnapshotWrap::Restore(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!snapshot_) return FailureObject(env, kClosed);
  const Result<Snapshot::Restored> restored = snapshot_->Restore(ViewRanges(info[0]));
  if (!restored) return FailureObject(env, restored.Error());
  Napi::Object stats = Napi::Object::New(env);
  stats.Set("pages", Count(env, restored.Value().pages));
  stats.Set("bytes", Count(env, restored.Value().bytes));
  stats.Set("different", Count(env, restored.Value().different));
  return stats;
}

Napi::Value SnapshotWrap::Diff(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!snapshot_) return FailureObject(env, kClosed);
  const std::vector<Range> live = ViewRanges(info[0]);
  Result<std::vector<RangeSet>> different = snapshot_->Diff(live);
  if (!different) return FailureObject(env, different.Error());
  Napi::Array sets = Napi::Array::New(env, live.size());
  for (uint32_t i = 0; i < live.size(); i++) {
    sets.Set(i, OffsetsArray(env, &different.Value()[i], live[i]));
  }
  return sets;
}

Napi::Value SnapshotWrap::Read(const Napi::CallbackInfo& info) {
  if (!snapshot_) return FailureObject(info.Env(), kClosed);
  const size_t memory = info[0].As<Napi::Number>().Uint32Value();
  const auto offset = static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value());
  const auto length = static_cast<uint64_t>(info[2].As<Napi::Number>().Int64Value());
  Napi::Uint8Array bytes = Napi::Uint8Array::New(info.Env(), length);
  snapshot_->Read(memory, offset, length, bytes.Data());
  return bytes;
}

void SnapshotWrap::Close(const Napi::CallbackInfo& /*info*/) {
  snapshot_.reset();
  kept_alive_.Reset();
}

}  // namespace uffd
