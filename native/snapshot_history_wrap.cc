#include "snapshot_history_wrap.h"

#include <optional>
#include <utility>

#include "convert.h"
#include "memory_wrap.h"

namespace uffd {
namespace {

// Closed by a getter of the caller's, in the middle of its call.
constexpr Failure kClosed{kClosedErrno, "snapshot"};

Napi::Number Count(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

uint64_t Integer(const Napi::Value& value) {
  return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
}

std::vector<SnapshotHistory::Source> Sources(const Napi::Value& value) {
  const auto array = value.As<Napi::Array>();
  std::vector<SnapshotHistory::Source> sources;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const auto source = array.Get(i).As<Napi::Object>();
    sources.push_back({ViewRange(source.Get("view")), Integer(source.Get("pageSize")),
                       MappingOf(source.Get("mapping"))});
  }
  return sources;
}

Napi::Array OffsetsArrays(Napi::Env env, std::vector<SnapshotHistory::Difference>* differences) {
  Napi::Array sets = Napi::Array::New(env, differences->size());
  uint32_t i = 0;
  for (auto& [pages, bytes] : *differences) sets.Set(i++, OffsetsArray(env, &pages, bytes));
  return sets;
}

}  // namespace

Napi::Function SnapshotHistoryWrap::Define(Napi::Env env) {
  using Wrap = SnapshotHistoryWrap;
  return DefineClass(
      env, "SnapshotHistory",
      {InstanceMethod<&Wrap::Track>("track"), InstanceMethod<&Wrap::Take>("take"),
       InstanceMethod<&Wrap::CheckRestore>("checkRestore"),
       InstanceMethod<&Wrap::Restore>("restore"), InstanceMethod<&Wrap::Diff>("diff"),
       InstanceMethod<&Wrap::DiffLive>("diffLive"), InstanceMethod<&Wrap::Read>("read"),
       InstanceMethod<&Wrap::Drop>("drop"), InstanceMethod<&Wrap::KeepUp>("keepUp"),
       InstanceMethod<&Wrap::AddedBytes>("addedBytes"), InstanceMethod<&Wrap::Bytes>("bytes"),
       InstanceMethod<&Wrap::OwnBytes>("ownBytes"), InstanceMethod<&Wrap::Close>("close")});
}

SnapshotHistoryWrap::SnapshotHistoryWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<SnapshotHistoryWrap>(info) {}

Napi::Value SnapshotHistoryWrap::Track(const Napi::CallbackInfo& info) {
  const auto engine = static_cast<DirtyEngine>(info[2].As<Napi::Number>().Int32Value());
  using Writers = ConsistentCopy::Writers;
  const Writers writers = info[3].ToBoolean() ? Writers::kAnybody : Writers::kThreads;
  auto history = SnapshotHistory::Track(Sources(info[0]), engine, writers);
  if (!history) return FailureObject(info.Env(), history.Error());
  kept_alive_ = Napi::Persistent(info[1].As<Napi::Object>());
  history_ = std::move(history.Value());
  return info.Env().Undefined();
}

Napi::Value SnapshotHistoryWrap::Take(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!history_) return FailureObject(env, kClosed);
  std::optional<uint64_t> most_bytes;
  if (!info[1].IsUndefined()) most_bytes = Integer(info[1]);
  const Result<uint64_t> entry = history_->Take(ViewRanges(info[0]), most_bytes);
  if (!entry) return FailureObject(env, entry.Error());
  return Count(env, entry.Value());
}

Napi::Value SnapshotHistoryWrap::CheckRestore(const Napi::CallbackInfo& info) {
  if (!history_) return FailureObject(info.Env(), kClosed);
  return StatusValue(info.Env(), history_->CheckRestore(Integer(info[0]), ViewRanges(info[1])));
}

Napi::Value SnapshotHistoryWrap::Restore(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!history_) return FailureObject(env, kClosed);
  const auto restored = history_->Restore(Integer(info[0]), ViewRanges(info[1]));
  if (!restored) return FailureObject(env, restored.Error());
  Napi::Object stats = Napi::Object::New(env);
  stats.Set("pages", Count(env, restored.Value().pages));
  stats.Set("bytes", Count(env, restored.Value().bytes));
  stats.Set("different", Count(env, restored.Value().different));
  return stats;
}

Napi::Value SnapshotHistoryWrap::Diff(const Napi::CallbackInfo& info) {
  if (!history_) return FailureObject(info.Env(), kClosed);
  auto differences = history_->Diff(Integer(info[0]), Integer(info[1]));
  return OffsetsArrays(info.Env(), &differences);
}

Napi::Value SnapshotHistoryWrap::DiffLive(const Napi::CallbackInfo& info) {
  if (!history_) return FailureObject(info.Env(), kClosed);
  auto differences = history_->DiffLive(Integer(info[0]), ViewRanges(info[1]));
  if (!differences) return FailureObject(info.Env(), differences.Error());
  return OffsetsArrays(info.Env(), &differences.Value());
}

Napi::Value SnapshotHistoryWrap::Read(const Napi::CallbackInfo& info) {
  if (!history_) return FailureObject(info.Env(), kClosed);
  // In memory that JavaScript made: where there is none, that throws, and Node-API ends the
  // process.
  auto bytes = info[3].As<Napi::Uint8Array>();
  history_->Read(Integer(info[0]), Integer(info[1]), Integer(info[2]), bytes.ByteLength(),
                 bytes.Data());
  return info.Env().Undefined();
}

Napi::Value SnapshotHistoryWrap::Drop(const Napi::CallbackInfo& info) {
  if (!history_) return FailureObject(info.Env(), kClosed);
  history_->Drop(Integer(info[0]));
  return info.Env().Undefined();
}

void SnapshotHistoryWrap::KeepUp(const Napi::CallbackInfo& /*info*/) {
  if (history_) history_->KeepUp();
}

Napi::Value SnapshotHistoryWrap::Bytes(const Napi::CallbackInfo& info) {
  if (!history_) return FailureObject(info.Env(), kClosed);
  return Count(info.Env(), history_->Bytes());
}

Napi::Value SnapshotHistoryWrap::AddedBytes(const Napi::CallbackInfo& info) {
  if (!history_) return FailureObject(info.Env(), kClosed);
  return Count(info.Env(), history_->AddedBytes(Integer(info[0])));
}

Napi::Value SnapshotHistoryWrap::OwnBytes(const Napi::CallbackInfo& info) {
  if (!history_) return FailureObject(info.Env(), kClosed);
  return Count(info.Env(), history_->OwnBytes(Integer(info[0])));
}

void SnapshotHistoryWrap::Close(const Napi::CallbackInfo& /*info*/) {
  history_.reset();
  kept_alive_.Reset();
}

}  // namespace uffd
