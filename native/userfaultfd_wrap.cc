#include "userfaultfd_wrap.h"

#include <cerrno>

#include "convert.h"
#include "core/holder_list.h"
#include "core/registry.h"
#include "core/test_barrier.h"
#include "memory_wrap.h"

namespace uffd {
namespace {

// One event as the numbers that lib/events.ts reads, in this order.
constexpr size_t kEventFields = 10;

// How a fault ended, as the number that lib/page-fault.ts takes apart: to make an object for each
// fault takes nearly as long as its ioctl.
double EndingNumber(const Ending& ending) {
  constexpr int kActions = 16;
  static_assert(static_cast<int>(Action::kWake) < kActions);
  return static_cast<int>(ending.by) * kActions + static_cast<int>(ending.action);
}

Failure OutOfView(const char* call) { return {ERANGE, call}; }

uint64_t ModeArgument(const Napi::Value& value) {
  return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
}

uint64_t IdArgument(const Napi::Value& value) {
  return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
}

uint64_t NumberField(const Napi::Object& object, const char* name) {
  return static_cast<uint64_t>(object.Get(name).As<Napi::Number>().Int64Value());
}

// Of a property that may be absent: whatever a program put into Object.prototype is none of it.
Napi::Value OwnValue(const Napi::Object& object, const char* name) {
  return object.HasOwnProperty(name) ? object.Get(name) : object.Env().Undefined();
}

// { fd, offset, length }, { mapping, offset } or { shared, offset }.
Result<std::shared_ptr<const PageSource>> SourceArgument(const Napi::Object& source) {
  const uint64_t offset = NumberField(source, "offset");
  if (std::shared_ptr<Mapping> memory = MappingOf(OwnValue(source, "mapping"))) {
    return MemorySource::Create(std::move(memory), offset);
  }
  const Napi::Value shared = OwnValue(source, "shared");
  if (!shared.IsUndefined()) return SharedSource::Create(ViewRange(shared), offset);
  FileDescriptor file = FileDescriptor::Duplicate(source.Get("fd").As<Napi::Number>().Int32Value());
  if (!file) return Failure{errno, "fcntl(F_DUPFD_CLOEXEC)"};
  return FileSource::Create(std::move(file), offset, NumberField(source, "length"));
}

Result<std::shared_ptr<const Policy>> PolicyArgument(const Napi::Value& value) {
  const auto given = value.As<Napi::Object>();
  auto policy = std::make_shared<Policy>();
  policy->mode = NumberField(given, "mode");
  policy->page_size = NumberField(given, "pageSize");
  policy->handler = given.Get("handler").As<Napi::Boolean>().Value();
  policy->deadline = std::chrono::milliseconds(NumberField(given, "deadlineMs"));
  policy->poison = given.Get("poison").As<Napi::Boolean>().Value();
  policy->zeros = ZeroPage(policy->page_size);
  if (policy->zeros == nullptr) return Failure{ENOMEM, "mmap"};
  if (const Napi::Value from = OwnValue(given, "source"); from.IsObject()) {
    Result<std::shared_ptr<const PageSource>> source = SourceArgument(from.As<Napi::Object>());
    if (!source) return source.Error();
    policy->source = std::move(source.Value());
  }
  return std::shared_ptr<const Policy>(std::move(policy));
}

uint64_t FeaturesArgument(const Napi::Value& value) {
  bool lossless = false;
  return value.As<Napi::BigInt>().Uint64Value(&lossless);
}

}  // namespace

Napi::Function UserfaultfdWrap::Define(Napi::Env env) {
  using Wrap = UserfaultfdWrap;
  return DefineClass(env, "Userfaultfd",
                     {InstanceMethod<&Wrap::Open>("open"),
                      InstanceMethod<&Wrap::Register>("register"),
                      InstanceMethod<&Wrap::Unregister>("unregister"),
                      InstanceMethod<&Wrap::WriteProtect>("writeProtect"),
                      InstanceMethod<&Wrap::Wake>("wake"),
                      InstanceMethod<&Wrap::Copy>("copy"),
                      InstanceMethod<&Wrap::Zeropage>("zeropage"),
                      InstanceMethod<&Wrap::Continue>("continue"),
                      InstanceMethod<&Wrap::Poison>("poison"),
                      InstanceMethod<&Wrap::Move>("move"),
                      InstanceMethod<&Wrap::ResolveFault>("resolveFault"),
                      InstanceMethod<&Wrap::EndingOf>("endingOf"),
                      InstanceMethod<&Wrap::TakeChild>("takeChild"),
                      InstanceMethod<&Wrap::IsChildOpen>("isChildOpen"),
                      InstanceMethod<&Wrap::OnChild>("onChild"),
                      InstanceMethod<&Wrap::CloseChild>("closeChild"),
                      InstanceMethod<&Wrap::SetConsumer>("setConsumer"),
                      InstanceMethod<&Wrap::ArmedBytes>("armedBytes"),
                      InstanceMethod<&Wrap::Drain>("drain"),
                      InstanceMethod<&Wrap::Released>("released"),
                      InstanceMethod<&Wrap::FailedWith>("failedWith"),
                      InstanceMethod<&Wrap::Missed>("missed"),
                      InstanceMethod<&Wrap::HasEvents>("hasEvents"),
                      InstanceMethod<&Wrap::SetRef>("setRef"),
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
  const auto at_exit = [this] {
    channel_ = nullptr;
    if (!session_) return false;
    if (!UFFD_NET_ENABLED("cleanup")) return true;
    session_->Release(EndingPatience::Haste::kEnding);
    return session_->Leaked();
  };
  channel_ = EventChannel::Open(env, info[3].As<Napi::Function>(), at_exit);
  Session::Opened opened = Session::Open(request, channel_);
  Napi::Object result = Napi::Object::New(env);
  if (opened.session) {
    session_ = std::move(opened.session);
    channel_->StayAwakeFor(session_.get());
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
  // A snapshot that is being captured tracks the memory afterwards: it must not find it taken.
  HolderList::Get().Finish(range);
  Result<std::shared_ptr<const Policy>> policy = PolicyArgument(info[1]);
  if (!policy) return FailureObject(env, policy.Error());
  const Result<Session::Registered> registered =
      session_->Register(range, policy.Value(), MappingOf(info[2]));
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
  if (done) kept_alive_.erase(id);
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
  return OnRange(info, &Session::Zeropage);
}

Napi::Value UserfaultfdWrap::Continue(const Napi::CallbackInfo& info) {
  return OnRange(info, &Session::Continue);
}

Napi::Value UserfaultfdWrap::Poison(const Napi::CallbackInfo& info) {
  return OnRange(info, &Session::Poison);
}

Napi::Value UserfaultfdWrap::OnRange(const Napi::CallbackInfo& info, RangeStep step) {
  const auto range = PartOfView(info[0], info[1], info[2]);
  if (!range) return PartialObject(info.Env(), {0, ERANGE});
  return PartialObject(info.Env(), (session_.get()->*step)(*range, ModeArgument(info[3])));
}

Napi::Value UserfaultfdWrap::Move(const Napi::CallbackInfo& info) {
  const auto source = PartOfView(info[2], info[3], info[4]);
  const auto range = PartOfView(info[0], info[1], info[4]);
  if (!range || !source) return PartialObject(info.Env(), {0, ERANGE});
  const uint64_t mode = ModeArgument(info[5]);
  return PartialObject(info.Env(), session_->Move(*range, source->start, mode));
}

Napi::Value UserfaultfdWrap::ResolveFault(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint64_t id = IdArgument(info[0]);
  const auto answer = static_cast<Session::Answer>(info[1].As<Napi::Number>().Int32Value());
  const Range bytes = info[2].IsUndefined() ? Range{} : ViewRange(info[2]);
  if (!bytes.Empty() && Registry::Get().MayFault(bytes)) {
    const Ending ending = session_->EndingOf(id);
    const bool open = ending.by == EndedBy::kNobody;
    return Napi::Number::New(env, open ? -ELOOP : EndingNumber(ending));
  }
  const auto protect =
      info[3].As<Napi::Boolean>().Value() ? Session::Protect::kYes : Session::Protect::kKeep;
  const Session::Resolved resolved =
      session_->ResolveFault(id, answer, reinterpret_cast<const uint8_t*>(bytes.start), protect);
  return Napi::Number::New(env,
                           resolved.error != 0 ? -resolved.error : EndingNumber(resolved.ending));
}

Napi::Value UserfaultfdWrap::EndingOf(const Napi::CallbackInfo& info) {
  const uint64_t id = IdArgument(info[0]);
  return Napi::Number::New(info.Env(), EndingNumber(session_->EndingOf(id)));
}

Napi::Value UserfaultfdWrap::TakeChild(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), session_->TakeChild(IdArgument(info[0])));
}

Napi::Value UserfaultfdWrap::IsChildOpen(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), session_->IsChildOpen(IdArgument(info[0])));
}

Napi::Value UserfaultfdWrap::OnChild(const Napi::CallbackInfo& info) {
  const auto range = PartOfView(info[2], info[3], info[4]);
  if (!range) return PartialObject(info.Env(), {0, ERANGE});
  const auto call = static_cast<ChildCall>(info[1].As<Napi::Number>().Int32Value());
  const Range bytes = info[6].IsUndefined() ? Range{} : ViewRange(info[6]);
  return PartialObject(info.Env(), session_->OnChild(IdArgument(info[0]), call, *range,
                                                     reinterpret_cast<const void*>(bytes.start),
                                                     ModeArgument(info[5])));
}

void UserfaultfdWrap::CloseChild(const Napi::CallbackInfo& info) {
  session_->CloseChild(IdArgument(info[0]));
}

void UserfaultfdWrap::SetConsumer(const Napi::CallbackInfo& info) {
  session_->SetConsumer(info[0].As<Napi::Boolean>().Value());
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
  // Asked before the queue: what comes after is not told as if it could not.
  const bool ended = session_->Released();
  while (count < capacity && session_->Pop(&event)) {
    // A handed-over fault may have ended since.
    const bool handed_over = event.type == EventType::kPageFault && event.id != 0;
    const Ending ending = handed_over ? session_->EndingOf(event.id) : event.ending;
    const double values[kEventFields] = {static_cast<double>(event.type),
                                         static_cast<double>(event.registration),
                                         static_cast<double>(event.offset),
                                         static_cast<double>(event.reason),
                                         event.write ? 1.0 : 0.0,
                                         static_cast<double>(event.thread_id),
                                         static_cast<double>(event.length),
                                         static_cast<double>(event.id),
                                         EndingNumber(ending),
                                         static_cast<double>(event.child)};
    std::copy(std::begin(values), std::end(values), fields + count * kEventFields);
    count++;
  }
  const auto told = static_cast<double>(count);
  const bool is_last = ended && count < capacity;
  return Napi::Number::New(info.Env(), is_last ? -1 - told : told);
}

Napi::Value UserfaultfdWrap::Released(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), session_->Released());
}

Napi::Value UserfaultfdWrap::FailedWith(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), -session_->FailedWith());
}

Napi::Value UserfaultfdWrap::Missed(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(session_->Missed()));
}

Napi::Value UserfaultfdWrap::HasEvents(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), session_->HasEvents());
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
