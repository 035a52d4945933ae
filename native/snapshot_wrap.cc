#include "snapshot_wrap.h"

#include "convert.h"
#include "core/dirty_engine.h"
#include "core/sigbus_resolver.h"
#include "memory_wrap.h"

namespace uffd {
namespace {

// Closed by a getter of the caller's, in the middle of its call.
constexpr Failure kClosed{kClosedErrno, "snapshot"};

Napi::Number Count(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

std::vector<Snapshot::Source> SourcesArgument(const Napi::Value& value) {
  const auto list = value.As<Napi::Array>();
  std::vector<Snapshot::Source> sources;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value element = list[i];
    const auto source = element.As<Napi::Object>();
    const int64_t page_size = source.Get("pageSize").As<Napi::Number>().Int64Value();
    sources.push_back({ViewRange(source.Get("view")), static_cast<uint64_t>(page_size),
                       MappingOf(source.Get("mapping"))});
  }
  return sources;
}

CopyOnWrite::Options OptionsArgument(const Napi::Value& value) {
  const auto options = value.As<Napi::Object>();
  const auto number = [&](const char* name) {
    return static_cast<uint64_t>(options.Get(name).As<Napi::Number>().Int64Value());
  };
  const bool in_thread = options.Get("inThread").As<Napi::Boolean>();
  return {in_thread ? CopyOnWrite::Resolver::kInThread : CopyOnWrite::Resolver::kLoop,
          number("maxBytes"), number("bytesPerSecond")};
}

Napi::Object ProgressObject(Napi::Env env, const Cut::Progress& progress) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("swept", Count(env, progress.swept));
  object.Set("faulted", Count(env, progress.faulted));
  object.Set("bytes", Count(env, progress.bytes));
  object.Set("waits", Count(env, progress.waits));
  object.Set("waitedNs", Count(env, progress.waited_ns));
  object.Set("longestWaitNs", Count(env, progress.longest_wait_ns));
  return object;
}

Napi::Value SetsOrFailure(Napi::Env env, Result<std::vector<RangeSet>> pages,
                          const std::vector<Range>& live) {
  if (!pages) return FailureObject(env, pages.Error());
  Napi::Array sets = Napi::Array::New(env, live.size());
  for (uint32_t i = 0; i < live.size(); i++) {
    sets.Set(i, OffsetsArray(env, &pages.Value()[i], live[i]));
  }
  return sets;
}

}  // namespace

Napi::Function SnapshotWrap::Define(Napi::Env env) {
  using Wrap = SnapshotWrap;
  return DefineClass(
      env, "Snapshot",
      {InstanceMethod<&Wrap::Take>("take"),
       InstanceMethod<&Wrap::TakeCopyOnWrite>("takeCopyOnWrite"),
       InstanceMethod<&Wrap::State>("state"), InstanceMethod<&Wrap::KeepWaiting>("keepWaiting"),
       InstanceMethod<&Wrap::StopWaiting>("stopWaiting"), InstanceMethod<&Wrap::Restore>("restore"),
       InstanceMethod<&Wrap::Written>("written"), InstanceMethod<&Wrap::Diff>("diff"),
       InstanceMethod<&Wrap::Read>("read"), InstanceMethod<&Wrap::Close>("close"),
       StaticMethod<&Wrap::ReinstallSigbusHandler>("reinstallSigbusHandler")});
}

SnapshotWrap::SnapshotWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SnapshotWrap>(info) {}

Napi::Value SnapshotWrap::Take(const Napi::CallbackInfo& info) {
  const auto engine = static_cast<DirtyEngine>(info[2].As<Napi::Number>().Int32Value());
  const auto most_bytes = static_cast<uint64_t>(info[3].As<Napi::Number>().Int64Value());
  auto snapshot = Snapshot::Take(
      SourcesArgument(info[0]), engine == DirtyEngine::kCompare ? &TrackByCompare : &TrackByWpAsync,
      most_bytes);
  if (!snapshot) return FailureObject(info.Env(), snapshot.Error());
  kept_alive_ = Napi::Persistent(info[1].As<Napi::Object>());
  snapshot_ = std::move(snapshot.Value());
  return info.Env().Undefined();
}

SnapshotWrap::~SnapshotWrap() {
  snapshot_.reset();
  CloseChannel();
}

Napi::Value SnapshotWrap::TakeCopyOnWrite(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = static_cast<DirtyEngine>(info[2].As<Napi::Number>().Int32Value());
  channel_ = EventChannel::Open(env, info[4].As<Napi::Function>(), [this] {
    channel_ = nullptr;
    snapshot_.reset();
    return false;
  });
  const Snapshot::Trackers trackers{engine == DirtyEngine::kWpAsync ? &TrackByWpAsync : nullptr,
                                    &TrackByCompare};
  Snapshot::Taken taken =
      Snapshot::TakeCopyOnWrite(SourcesArgument(info[0]), OptionsArgument(info[3]), trackers,
                                [channel = channel_] { channel->Poke(); });
  if (taken.snapshot == nullptr) {
    CloseChannel();
    Napi::Object failure = FailureObject(env, taken.failure);
    failure.Set("missingFeatures", Napi::BigInt::New(env, taken.missing_features));
    failure.Set("attempts", AttemptsArray(env, taken.attempts));
    return failure;
  }
  kept_alive_ = Napi::Persistent(info[1].As<Napi::Object>());
  snapshot_ = std::move(taken.snapshot);
  return env.Undefined();
}

Napi::Value SnapshotWrap::State(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!snapshot_) return FailureObject(env, kClosed);
  Napi::Object state = ProgressObject(env, snapshot_->Progress());
  state.Set("settled", Napi::Boolean::New(env, snapshot_->IsSettled()));
  state.Set("failure", StatusValue(env, snapshot_->Health()));
  return state;
}

void SnapshotWrap::KeepWaiting(const Napi::CallbackInfo& /*info*/) {
  if (channel_ != nullptr) channel_->SetRef(true);
}

void SnapshotWrap::StopWaiting(const Napi::CallbackInfo& /*info*/) { CloseChannel(); }

void SnapshotWrap::CloseChannel() noexcept {
  if (channel_ != nullptr) channel_->Close(false);
  channel_ = nullptr;
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

Napi::Value SnapshotWrap::Written(const Napi::CallbackInfo& info) {
  if (!snapshot_) return FailureObject(info.Env(), kClosed);
  const std::vector<Range> live = ViewRanges(info[0]);
  return SetsOrFailure(info.Env(), snapshot_->Written(live), live);
}

Napi::Value SnapshotWrap::Diff(const Napi::CallbackInfo& info) {
  if (!snapshot_) return FailureObject(info.Env(), kClosed);
  const std::vector<Range> live = ViewRanges(info[0]);
  return SetsOrFailure(info.Env(), snapshot_->Diff(live), live);
}

Napi::Value SnapshotWrap::Read(const Napi::CallbackInfo& info) {
  if (!snapshot_) return FailureObject(info.Env(), kClosed);
  const size_t memory = info[0].As<Napi::Number>().Uint32Value();
  const auto offset = static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value());
  const auto length = static_cast<uint64_t>(info[2].As<Napi::Number>().Int64Value());
  // In memory that JavaScript made: where there is none, that throws, and Node-API ends the
  // process.
  auto bytes = info[3].As<Napi::Uint8Array>();
  if (bytes.ByteLength() < length) return FailureObject(info.Env(), {ERANGE, "read"});
  const Status read = snapshot_->Read(memory, offset, length, bytes.Data());
  if (!read) return FailureObject(info.Env(), read.Error());
  return info.Env().Undefined();
}

void SnapshotWrap::ReinstallSigbusHandler(const Napi::CallbackInfo& /*info*/) {
  SigbusResolver::Reinstall();
}

void SnapshotWrap::Close(const Napi::CallbackInfo& /*info*/) {
  snapshot_.reset();
  CloseChannel();
  kept_alive_.Reset();
}

}  // namespace uffd
