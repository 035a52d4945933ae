#include "lazy_load_wrap.h"

#include <cerrno>
#include <utility>

#include "convert.h"
#include "memory_wrap.h"

namespace uffd {
namespace {

uint64_t NumberOf(const Napi::Object& object, const char* name) {
  return static_cast<uint64_t>(object.Get(name).As<Napi::Number>().Int64Value());
}

std::vector<LazyLoad::Memory> MemoriesArgument(const Napi::Value& value) {
  const auto list = value.As<Napi::Array>();
  std::vector<LazyLoad::Memory> memories;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const auto memory = list.Get(i).As<Napi::Object>();
    memories.push_back({ViewRange(memory.Get("view")), NumberOf(memory, "pageSize"),
                        MappingOf(memory.Get("mapping"))});
  }
  return memories;
}

// Descriptors of our own: JavaScript closes its.
Result<std::vector<SnapshotPages::File>> FilesArgument(const Napi::Value& value) {
  const auto list = value.As<Napi::Array>();
  std::vector<SnapshotPages::File> files;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const auto file = list.Get(i).As<Napi::Object>();
    FileDescriptor fd = FileDescriptor::Duplicate(static_cast<int>(NumberOf(file, "fd")));
    if (!fd) return Failure{errno, "dup"};
    files.push_back({std::move(fd), NumberOf(file, "pagesAt"), NumberOf(file, "digestsAt")});
  }
  return files;
}

// PageMap of lib/page-runs.ts.
std::vector<SnapshotPages::Run> RunsOf(const Napi::Object& map) {
  const auto first = map.Get("first").As<Napi::Float64Array>();
  const auto count = map.Get("count").As<Napi::Float64Array>();
  const auto link = map.Get("link").As<Napi::Uint32Array>();
  const auto index = map.Get("index").As<Napi::Float64Array>();
  std::vector<SnapshotPages::Run> runs(NumberOf(map, "length"));
  for (size_t i = 0; i < runs.size(); i++) {
    runs[i] = {static_cast<uint64_t>(first[i]), static_cast<uint64_t>(count[i]), link[i],
               static_cast<uint64_t>(index[i])};
  }
  return runs;
}

// [memory, offset, …] to pages.
std::vector<LoadState::Touch> OrderArgument(const Napi::Value& value,
                                            const std::vector<LazyLoad::Memory>& memories) {
  const auto pairs = value.As<Napi::Float64Array>();
  std::vector<LoadState::Touch> order;
  order.reserve(pairs.ElementLength() / 2);
  for (size_t i = 0; i + 1 < pairs.ElementLength(); i += 2) {
    const auto memory = static_cast<uint32_t>(pairs[i]);
    order.push_back({memory, static_cast<uint64_t>(pairs[i + 1]) / memories[memory].page_size});
  }
  return order;
}

Napi::Number Count(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

}  // namespace

Napi::Function LazyLoadWrap::Define(Napi::Env env) {
  using Wrap = LazyLoadWrap;
  return DefineClass(
      env, "LazyLoad",
      {InstanceMethod<&Wrap::Start>("start"), InstanceMethod<&Wrap::State>("state"),
       InstanceMethod<&Wrap::Touches>("touches"), InstanceMethod<&Wrap::Complete>("complete"),
       InstanceMethod<&Wrap::KeepWaiting>("keepWaiting"),
       InstanceMethod<&Wrap::StopWaiting>("stopWaiting")});
}

LazyLoadWrap::LazyLoadWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<LazyLoadWrap>(info) {}

// The load goes on without its object.
LazyLoadWrap::~LazyLoadWrap() {
  if (load_) load_->Forget();
  CloseChannel();
}

Napi::Value LazyLoadWrap::Start(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto request = info[0].As<Napi::Object>();
  std::vector<LazyLoad::Memory> memories = MemoriesArgument(request.Get("memories"));
  auto files = FilesArgument(request.Get("files"));
  if (!files) return FailureObject(env, files.Error());
  std::vector<std::vector<SnapshotPages::Run>> maps;
  const auto list = request.Get("maps").As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    maps.push_back(RunsOf(list.Get(i).As<Napi::Object>()));
  }
  auto pages = std::make_shared<const SnapshotPages>(std::move(files.Value()), std::move(maps),
                                                     NumberOf(request, "filePageSize"));
  std::vector<LoadState::Touch> order = OrderArgument(request.Get("order"), memories);
  const bool in_thread = request.Get("inThread").As<Napi::Boolean>();
  const LazyLoad::Options options{
      in_thread ? LazyLoad::Resolver::kInThread : LazyLoad::Resolver::kLoop,
      NumberOf(request, "bytesPerSecond")};
  channel_ = EventChannel::Open(env, info[2].As<Napi::Function>(), [this] {
    channel_ = nullptr;
    if (load_) load_->Forget();
    return false;
  });
  LazyLoad::Started started = LazyLoad::Start(memories, pages, std::move(order), options,
                                              [channel = channel_] { channel->Poke(); });
  if (started.load == nullptr) {
    CloseChannel();
    Napi::Object failure = FailureObject(env, started.failure);
    failure.Set("missingFeatures", Napi::BigInt::New(env, started.missing_features));
    failure.Set("attempts", AttemptsArray(env, started.attempts));
    return failure;
  }
  kept_alive_ = Napi::Persistent(info[1].As<Napi::Object>());
  load_ = std::move(started.load);
  return env.Undefined();
}

Napi::Value LazyLoadWrap::State(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const LoadState::Progress progress = load_->State().Read();
  Napi::Object state = Napi::Object::New(env);
  state.Set("over", Napi::Boolean::New(env, load_->IsOver()));
  state.Set("failure", StatusValue(env, load_->State().Error()));
  state.Set("filled", Count(env, progress.filled));
  state.Set("touched", Count(env, progress.touched));
  state.Set("bytes", Count(env, progress.bytes));
  state.Set("waitedNs", Count(env, progress.waited_ns));
  state.Set("longestWaitNs", Count(env, progress.longest_wait_ns));
  return state;
}

// [memory, offset, …]
Napi::Value LazyLoadWrap::Touches(const Napi::CallbackInfo& info) {
  load_->AwaitTouches();
  const LoadState& state = load_->State();
  const size_t count = state.TouchCount();
  Napi::Float64Array touches = Napi::Float64Array::New(info.Env(), count * 2);
  for (size_t i = 0; i < count; i++) {
    const LoadState::Touch touch = state.TouchAt(i);
    touches[2 * i] = touch.memory;
    touches[2 * i + 1] = static_cast<double>(touch.page * load_->PageBytes(touch.memory));
  }
  return touches;
}

void LazyLoadWrap::Complete(const Napi::CallbackInfo& /*info*/) { load_->Complete(); }

void LazyLoadWrap::KeepWaiting(const Napi::CallbackInfo& /*info*/) {
  if (channel_ != nullptr) channel_->SetRef(true);
}

void LazyLoadWrap::StopWaiting(const Napi::CallbackInfo& /*info*/) {
  CloseChannel();
  kept_alive_.Reset();
}

void LazyLoadWrap::CloseChannel() noexcept {
  if (channel_ != nullptr) channel_->Close(false);
  channel_ = nullptr;
}

}  // namespace uffd
