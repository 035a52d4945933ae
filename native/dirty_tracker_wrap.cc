#include "dirty_tracker_wrap.h"

#include <memory>
#include <utility>

#include "convert.h"
#include "core/compare.h"
#include "core/dirty_consumer.h"
#include "core/dirty_engine.h"
#include "memory_wrap.h"

namespace uffd {
namespace {

// Closed by a getter of the caller's, in the middle of its call.
constexpr Failure kClosed{kClosedErrno, "tracker"};

DirtyEngine EngineOf(const Napi::Value& number) {
  return static_cast<DirtyEngine>(number.As<Napi::Number>().Int32Value());
}

struct Reader {
  // First: the memory must live until the tracker has let go of it.
  Napi::ObjectReference kept_alive;
  std::unique_ptr<DirtyConsumer> consumer;  // null: it is closed
};

Reader& ReaderOf(const Napi::Value& external) {
  return *external.As<Napi::External<Reader>>().Data();
}

Napi::Value ReaderOrFailure(const Napi::Value& keep_alive,
                            Result<std::unique_ptr<DirtyConsumer>> consumer) {
  const Napi::Env env = keep_alive.Env();
  if (!consumer) return FailureObject(env, consumer.Error());
  auto reader = std::make_unique<Reader>();
  reader->kept_alive = Napi::Persistent(keep_alive.As<Napi::Object>());
  reader->consumer = std::move(consumer.Value());
  // Throws where the environment is being ended (test 42).
  const Napi::Value external = Napi::External<Reader>::New(
      env, reader.get(), [](Napi::Env, const Reader* data) { delete data; });
  static_cast<void>(reader.release());
  return external;
}

// open(view, keepAlive, engine, pageSize, mapping).
Napi::Value Open(const Napi::CallbackInfo& info) {
  const auto page_size = static_cast<uint64_t>(info[3].As<Napi::Number>().Int64Value());
  return ReaderOrFailure(info[1], DirtyConsumer::Open(EngineOf(info[2]), ViewRange(info[0]),
                                                      page_size, MappingOf(info[4])));
}

// join(other, view, keepAlive).
Napi::Value Join(const Napi::CallbackInfo& info) {
  const Reader& other = ReaderOf(info[0]);
  if (!other.consumer) return FailureObject(info.Env(), kClosed);
  return ReaderOrFailure(info[2], other.consumer->Another(ViewRange(info[1])));
}

using Read = Status (DirtyConsumer::*)(Range now, PackedPages* dirty) noexcept;

template <Read kRead>
Napi::Value ReadPages(const Napi::CallbackInfo& info) {
  const Reader& reader = ReaderOf(info[0]);
  if (!reader.consumer) return FailureObject(info.Env(), kClosed);
  thread_local PackedPages dirty;
  const Status done = (reader.consumer.get()->*kRead)(ViewRange(info[1]), &dirty);
  if (!done) return FailureObject(info.Env(), done.Error());
  return PackedPagesString(info.Env(), dirty.End());
}

Napi::Value TakeWrites(const Napi::CallbackInfo& info) {
  const Reader& reader = ReaderOf(info[0]);
  if (!reader.consumer) return FailureObject(info.Env(), kClosed);
  const Range now = ViewRange(info[1]);
  return WritesObject(info.Env(), reader.consumer->TakeWrites(), now);
}

using Mark = void (DirtyConsumer::*)(Range bytes) noexcept;

template <Mark kMark>
void MarkPages(const Napi::CallbackInfo& info) {
  const Reader& reader = ReaderOf(info[0]);
  if (!reader.consumer) return;
  for (const Range& part : RangesOf(info[2], ViewRange(info[1]))) {
    (reader.consumer.get()->*kMark)(part);
  }
}

// A WeakRef would hold the memory to the end of the job that made it, and so change when a program
// runs out of memories (test 71).
void HoldWeakly(const Napi::CallbackInfo& info) {
  Reader& reader = ReaderOf(info[0]);
  if (reader.consumer) reader.kept_alive.Unref();
}

Napi::Value MemoryOf(const Napi::CallbackInfo& info) {
  const Reader& reader = ReaderOf(info[0]);
  Napi::Value memory;
  if (reader.consumer) memory = reader.kept_alive.Value();
  return memory.IsEmpty() ? info.Env().Undefined() : memory;
}

void Close(const Napi::CallbackInfo& info) {
  Reader& reader = ReaderOf(info[0]);
  reader.consumer.reset();
  reader.kept_alive.Reset();
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

void DefineDirtyTracker(Napi::Env env, Napi::Object exports) {
  const Napi::Object functions = Napi::Object::New(env);
  functions.Set("open", Napi::Function::New<Open>(env, "open"));
  functions.Set("join", Napi::Function::New<Join>(env, "join"));
  functions.Set("collect", Napi::Function::New<ReadPages<&DirtyConsumer::Collect>>(env, "collect"));
  functions.Set("peek", Napi::Function::New<ReadPages<&DirtyConsumer::Peek>>(env, "peek"));
  functions.Set("takeWrites", Napi::Function::New<TakeWrites>(env, "takeWrites"));
  functions.Set("markDirty",
                Napi::Function::New<MarkPages<&DirtyConsumer::MarkDirty>>(env, "markDirty"));
  functions.Set("putBack", Napi::Function::New<MarkPages<&DirtyConsumer::PutBack>>(env, "putBack"));
  functions.Set("holdWeakly", Napi::Function::New<HoldWeakly>(env, "holdWeakly"));
  functions.Set("memory", Napi::Function::New<MemoryOf>(env, "memory"));
  functions.Set("close", Napi::Function::New<Close>(env, "close"));
  functions.Set("whyUnavailable", Napi::Function::New<WhyNot>(env, "whyUnavailable"));
  functions.Set("differingBytes", Napi::Function::New<DifferingBytes>(env, "differingBytes"));
  exports.Set("dirtyTracker", functions);
}

}  // namespace uffd
