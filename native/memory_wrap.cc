#include "memory_wrap.h"

#include <cerrno>

#include "convert.h"

namespace uffd {
namespace {

using MappingRef = std::shared_ptr<Mapping>;

Napi::Value Allocate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto bytes = static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value());
  const Result<MappingRef> mapping = Mapping::Anonymous(bytes);
  if (!mapping) return FailureObject(env, mapping.Error());
  const MappingRef& memory = mapping.Value();
  // The buffer and the token each hold the mapping; it goes with the last of them, and with the
  // last userfaultfd that has it registered.
  const auto buffer = Napi::ArrayBuffer::New(
      env, memory->Data(), memory->Bytes(),
      [](Napi::Env /*env*/, void* /*data*/, MappingRef* held) { delete held; },
      new MappingRef(memory));
  // And the object itself, which outlives its detached bytes: see Detach.
  napi_add_finalizer(
      env, buffer, new MappingRef(memory),
      [](napi_env /*env*/, void* held, void* /*hint*/) { delete static_cast<MappingRef*>(held); },
      nullptr, nullptr);
  Napi::Object result = Napi::Object::New(env);
  result.Set("buffer", buffer);
  result.Set("mapping", Napi::External<MappingRef>::New(
                            env, new MappingRef(memory),
                            [](Napi::Env /*env*/, MappingRef* held) { delete held; }));
  return result;
}

Napi::Value DiscardPages(const Napi::CallbackInfo& info) {
  const auto range = PartOfView(info[0], info[1], info[2]);
  if (!range) return FailureObject(info.Env(), {ERANGE, "madvise(MADV_DONTNEED)"});
  return StatusValue(info.Env(), Discard(*range));
}

// The pages go back now. The addresses stay taken until the garbage collector takes the
// ArrayBuffer: an asynchronous operation under way (fs.read, crypto.randomFill) holds that object
// and writes to them. Pages that a registration reads from go with that.
void Detach(const Napi::CallbackInfo& info) {
  MappingRef* mapping = info[1].As<Napi::External<MappingRef>>().Data();
  info[0].As<Napi::ArrayBuffer>().Detach();
  if (!(*mapping)->Pinned()) static_cast<void>(Discard((*mapping)->AddressRange()).Ok());
  mapping->reset();
}

Napi::Value AddressInPage(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(ViewRange(info[0]).start % PageSize()));
}

}  // namespace

void DefineMemory(Napi::Env env, Napi::Object exports) {
  exports.Set("pageSize", Napi::Number::New(env, static_cast<double>(PageSize())));
  exports.Set("allocate", Napi::Function::New<Allocate>(env, "allocate"));
  exports.Set("discard", Napi::Function::New<DiscardPages>(env, "discard"));
  exports.Set("detach", Napi::Function::New<Detach>(env, "detach"));
  exports.Set("addressInPage", Napi::Function::New<AddressInPage>(env, "addressInPage"));
}

std::shared_ptr<Mapping> MappingOf(const Napi::Value& token) {
  return token.IsExternal() ? *token.As<Napi::External<MappingRef>>().Data() : nullptr;
}

}  // namespace uffd
