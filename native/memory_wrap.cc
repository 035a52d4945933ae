#include "memory_wrap.h"

#include <cerrno>

#include "convert.h"

namespace uffd {
namespace {

using MappingRef = std::shared_ptr<Mapping>;

MappingRequest RequestOf(const Napi::Object& options) {
  const auto number = [&](const char* name) { return options.Get(name).As<Napi::Number>(); };
  MappingRequest request;
  request.backing = static_cast<Backing>(number("backing").Int32Value());
  request.bytes = static_cast<uint64_t>(number("bytes").Int64Value());
  request.page_size = static_cast<uint64_t>(number("pageSize").Int64Value());
  request.map_shared = options.Get("mapShared").As<Napi::Boolean>();
  request.advice = static_cast<HugePageAdvice>(number("advice").Int32Value());
  request.path = options.Get("path").As<Napi::String>().Utf8Value();
  request.file_offset = static_cast<uint64_t>(number("fileOffset").Int64Value());
  return request;
}

// A buffer over the mapping, and the token that names it. Each holds the mapping; it goes with the
// last of them, and with the last userfaultfd that has it registered.
Napi::Object BufferOver(Napi::Env env, const MappingRef& memory) {
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

Napi::Value BufferOrFailure(Napi::Env env, const Result<MappingRef>& mapping) {
  if (!mapping) return FailureObject(env, mapping.Error());
  return BufferOver(env, mapping.Value());
}

Napi::Value Allocate(const Napi::CallbackInfo& info) {
  return BufferOrFailure(info.Env(), Mapping::Create(RequestOf(info[0].As<Napi::Object>())));
}

Napi::Value Alias(const Napi::CallbackInfo& info) {
  return BufferOrFailure(info.Env(), MappingOf(info[0])->Alias());
}

Napi::Value DiscardPages(const Napi::CallbackInfo& info) {
  const auto range = PartOfView(info[0], info[1], info[2]);
  if (!range) return FailureObject(info.Env(), {ERANGE, "madvise(MADV_DONTNEED)"});
  const MappingRef mapping = MappingOf(info[3]);
  return StatusValue(info.Env(), mapping ? mapping->Discard(*range) : Discard(*range));
}

// The pages go back now. The addresses stay taken until the garbage collector takes the
// ArrayBuffer: an asynchronous operation under way (fs.read, crypto.randomFill) holds that object
// and writes to them.
void Detach(const Napi::CallbackInfo& info) {
  MappingRef* mapping = info[1].As<Napi::External<MappingRef>>().Data();
  info[0].As<Napi::ArrayBuffer>().Detach();
  (*mapping)->Vacate();
  mapping->reset();
}

Napi::Value AddressInPage(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(ViewRange(info[0]).start % PageSize()));
}

Napi::Value HugetlbPageSize(const Napi::CallbackInfo& info) {
  const Result<uint64_t> size = DefaultHugetlbPageSize();
  if (!size) return FailureObject(info.Env(), size.Error());
  return Napi::Number::New(info.Env(), static_cast<double>(size.Value()));
}

Napi::Value RegularFileBytes(const Napi::CallbackInfo& info) {
  const auto file = MemoryFile::OpenRegular(info[0].As<Napi::String>().Utf8Value());
  if (!file) return FailureObject(info.Env(), file.Error());
  const Result<uint64_t> bytes = file.Value()->Bytes();
  if (!bytes) return FailureObject(info.Env(), bytes.Error());
  return Napi::Number::New(info.Env(), static_cast<double>(bytes.Value()));
}

}  // namespace

void DefineMemory(Napi::Env env, Napi::Object exports) {
  exports.Set("pageSize", Napi::Number::New(env, static_cast<double>(PageSize())));
  exports.Set("hugetlbPageSize", Napi::Function::New<HugetlbPageSize>(env, "hugetlbPageSize"));
  exports.Set("regularFileBytes", Napi::Function::New<RegularFileBytes>(env, "regularFileBytes"));
  exports.Set("allocate", Napi::Function::New<Allocate>(env, "allocate"));
  exports.Set("alias", Napi::Function::New<Alias>(env, "alias"));
  exports.Set("discard", Napi::Function::New<DiscardPages>(env, "discard"));
  exports.Set("detach", Napi::Function::New<Detach>(env, "detach"));
  exports.Set("addressInPage", Napi::Function::New<AddressInPage>(env, "addressInPage"));
}

std::shared_ptr<Mapping> MappingOf(const Napi::Value& token) {
  return token.IsExternal() ? *token.As<Napi::External<MappingRef>>().Data() : nullptr;
}

}  // namespace uffd
