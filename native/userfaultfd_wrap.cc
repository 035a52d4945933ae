#include "userfaultfd_wrap.h"

#include <cerrno>

#include "convert.h"
#include "core/test_barrier.h"
#include "memory_wrap.h"

namespace uffd {
namespace {

// One event as the numbers that lib/events.ts reads, in this order.
constexpr size_t kEventFields = 7;

Failure OutOfView(const char* call) { return {ERANGE, call}; }

uint64_t ModeArgument(const Napi::Value& value) {
  return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
}

uint64_t FeaturesArgument(const Napi::Value& value) {
  bool lossless = false;
  return value.As<Napi::BigInt>().Uint64Value(&lossless);
}

}  // namespace

Napi::Function UserfaultfdWrap::Define(Napi::Env env) {
  using Wrap = UserfaultfdWrap;
  return DefineClass(
      env, "Userfaultfd",
      {InstanceMethod<&Wrap::Open>("open"), InstanceMethod<&Wrap::Register>("register"),
       InstanceMethod<&Wrap::Unregister>("unregister"),
       InstanceMethod<&Wrap::WriteProtect>("writeProtect"), InstanceMethod<&Wrap::Wake>("wake"),
       InstanceMethod<&Wrap::Copy>("copy"), InstanceMethod<&Wrap::Zeropage>("zeropage"),
       InstanceMethod<&Wrap::ArmedBytes>("armedBytes"), InstanceMethod<&Wrap::Drain>("drain"),
       InstanceMethod<&Wrap::State>("state"), InstanceMethod<&Wrap::SetRef>("setRef"),
       InstanceMethod<&Wrap::Close>("close")});
}

UserfaultfdWrap::UserfaultfdWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<UserfaultfdWrap>(info) {}

UserfaultfdWrap::~UserfaultfdWrap() { ReleaseAndClose(); }

Napi::Value UserfaultfdWrap::Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  OpenRequest request;
  request.required_features = FeaturesArgument(info[0]);
  request.optional_features = FeaturesArgument(info[1]);
  request.user_mode = static_cast<UserMode>(info[2].As<Napi::Number>().Int32Value());
  channel_ = EventChannel::Open(env, info[3].As<Napi::Function>(), [this] {
    channel_ = nullptr;
    if (!session_) return false;
    if (!UFFD_NET_ENABLED("cleanup")) return true;
    session_->Release();
    return session_->Leaked();
  });
  Session::Opened opened = Session::Open(request, channel_);
  Napi::Object result = Napi::Object::New(env);
  if (opened.session) {
    session_ = std::move(opened.session);
    result.Set("features", Napi::BigInt::New(env, session_->Features()));
    result.Set("access", Napi::Number::New(env, static_cast<int>(session_->OpenedBy())));
  } else {
    ReleaseAndClose();
    result = FailureObject(env, opened.failure);
    result.Set("missingFeatures", Napi::BigInt::New(env, opened.missing_features));
  }
  result.Set("attempts", AttemptsArray(env, opened.attempts));
  return result;
}

Napi::Value UserfaultfdWrap::Register(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Range range = ViewRange(info[0]);
  const Result<Session::Registered> registered =
      session_->Register(range, ModeArgument(info[1]), MappingOf(info[2]));
  if (!registered) return FailureObject(env, registered.Error());
  const uint32_t id = registered.Value().id;
  kept_alive_[id] = Napi::Persistent(info[3].As<Napi::Object>());
  Napi::Object result = Napi::Object::New(env);
  result.Set("id", Napi::Number::New(env, id));
  result.Set("ioctls", Napi::BigInt::New(env, registered.Value().ioctls));
  return result;
}

Napi::Value UserfaultfdWrap::Unregister(const Napi::CallbackInfo& info) {
  const uint32_t id = info[0].As<Napi::Number>().Uint32Value();
  const Status done = session_->Unregister(id);
  kept_alive_.erase(id);
  return StatusValue(info.Env(), done);
}

Napi::Value UserfaultfdWrap::WriteProtect(const Napi::CallbackInfo& info) {
  const auto range = PartOfView(info[0], info[1], info[2]);
  if (!range) return FailureObject(info.Env(), OutOfView("ioctl(UFFDIO_WRITEPROTECT)"));
  return StatusValue(info.Env(), session_->WriteProtect(*range, ModeArgument(info[3])));
}

Napi::Value UserfaultfdWrap::Wake(const Napi::CallbackInfo& info) {
  const auto range = PartOfView(info[0], info[1], info[2]);
  if (!range) return FailureObject(info.Env(), OutOfView("ioctl(UFFDIO_WAKE)"));
  return StatusValue(info.Env(), session_->Wake(*range));
}

Napi::Value UserfaultfdWrap::Copy(const Napi::CallbackInfo& info) {
  const Range source = ViewRange(info[2]);
  const Napi::Value length = Napi::Number::New(info.Env(), static_cast<double>(source.Length()));
  const auto range = PartOfView(info[0], info[1], length);
  if (!range) return PartialObject(info.Env(), {0, ERANGE});
  const auto* bytes = reinterpret_cast<const void*>(source.start);
  return PartialObject(info.Env(), session_->Copy(*range, bytes, ModeArgument(info[3])));
}

Napi::Value UserfaultfdWrap::Zeropage(const Napi::CallbackInfo& info) {
  const auto range = PartOfView(info[0], info[1], info[2]);
  if (!range) return PartialObject(info.Env(), {0, ERANGE});
  return PartialObject(info.Env(), session_->Zeropage(*range, ModeArgument(info[3])));
}

Napi::Value UserfaultfdWrap::ArmedBytes(const Napi::CallbackInfo& info) {
  const auto range = PartOfView(info[0], info[1], info[2]);
  if (!range) return FailureObject(info.Env(), OutOfView("ioctl(PAGEMAP_SCAN)"));
  const Result<uint64_t> armed = session_->ArmedBytes(*range);
  if (!armed) return FailureObject(info.Env(), armed.Error());
  return Napi::Number::New(info.Env(), static_cast<double>(armed.Value()));
}

Napi::Value UserfaultfdWrap::Drain(const Napi::CallbackInfo& info) {
  auto out = info[0].As<Napi::Float64Array>();
  const size_t capacity = out.ElementLength() / kEventFields;
  double* fields = out.Data();
  size_t count = 0;
  Event event;
  while (count < capacity && session_->Pop(&event)) {
    const double values[kEventFields] = {
        static_cast<double>(event.type),   static_cast<double>(event.registration),
        static_cast<double>(event.offset), static_cast<double>(event.reason),
        event.write ? 1.0 : 0.0,           static_cast<double>(event.thread_id),
        static_cast<double>(event.length)};
    std::copy(std::begin(values), std::end(values), fields + count * kEventFields);
    count++;
  }
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

Napi::Value UserfaultfdWrap::State(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object state = Napi::Object::New(env);
  state.Set("released", Napi::Boolean::New(env, session_->Released()));
  state.Set("failedWith", Napi::Number::New(env, -session_->FailedWith()));
  state.Set("missed", Napi::Number::New(env, static_cast<double>(session_->Missed())));
  state.Set("queued", Napi::Boolean::New(env, session_->HasEvents()));
  return state;
}

void UserfaultfdWrap::SetRef(const Napi::CallbackInfo& info) {
  if (channel_ != nullptr) channel_->SetRef(info[0].As<Napi::Boolean>().Value());
}

void UserfaultfdWrap::Close(const Napi::CallbackInfo& /*info*/) {
  ReleaseAndClose();
  kept_alive_.clear();
}

void UserfaultfdWrap::ReleaseAndClose() noexcept {
  if (session_) session_->Release();
  if (channel_ != nullptr) channel_->Close(session_ && session_->Leaked());
  channel_ = nullptr;
}

}  // namespace uffd
