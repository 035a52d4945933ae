#include "memory_wrap.h"

#include <atomic>
#include <cerrno>

#include "convert.h"
#include "core/discard.h"
#include "core/holder_list.h"
#include "core/lost_pages.h"
#include "core/mapping_table.h"
#include "core/test_barrier.h"

namespace uffd {
namespace {

// One open region of a mapping, or somebody who only knows it.
struct OpenRegion {
  explicit OpenRegion(std::shared_ptr<Mapping> memory, bool is_open = true)
      : mapping(std::move(memory)), open(is_open) {}
  OpenRegion(const OpenRegion&) = delete;
  OpenRegion& operator=(const OpenRegion&) = delete;
  ~OpenRegion() { Leave(false); }

  void Leave(bool closing) noexcept {
    if (open.exchange(false)) mapping->Leave(closing);
  }

  const std::shared_ptr<Mapping> mapping;
  std::atomic<bool> open;
};

using RegionRef = std::shared_ptr<OpenRegion>;

RegionRef& RegionOf(const Napi::Value& token) {
  return *token.As<Napi::External<RegionRef>>().Data();
}

Range RangeOrEmpty(const Napi::Value& view) {
  return view.IsUndefined() ? Range{} : ViewRange(view);
}

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
  request.over = RangeOrEmpty(options.Get("over"));
  return request;
}

// A buffer over the mapping. Its bytes are an open region until they are detached or collected, and
// they hold the mapping; so does the object itself, which outlives its detached bytes: see Detach.
Napi::ArrayBuffer BufferOver(Napi::Env env, const RegionRef& region) {
  const auto buffer = Napi::ArrayBuffer::New(
      env, region->mapping->Data(), region->mapping->Bytes(),
      [](Napi::Env /*env*/, void* /*data*/, RegionRef* held) {
        (*held)->Leave(false);
        delete held;
      },
      new RegionRef(region));
  napi_add_finalizer(
      env, buffer, new RegionRef(region),
      [](napi_env /*env*/, void* held, void* /*hint*/) { delete static_cast<RegionRef*>(held); },
      nullptr, nullptr);
  return buffer;
}

// The token and the page size of the mapping. `weight`: what V8 was told of it.
void SetMapping(Napi::Object* object, const RegionRef& region, int64_t weight) {
  const Napi::Env env = object->Env();
  const uint64_t page_size = region->mapping->BackingPageSize();
  object->Set("pageSize", Napi::Number::New(env, static_cast<double>(page_size)));
  const auto forget = [weight](Napi::Env env, RegionRef* held) {
    delete held;
    if (weight != 0) Napi::MemoryManagement::AdjustExternalMemory(env, -weight);
  };
  object->Set("mapping", Napi::External<RegionRef>::New(env, new RegionRef(region), forget));
}

// What lib/region.ts makes a Region of. `over`: where a shared buffer lies, whose part it is.
Napi::Object RegionObject(Napi::Env env, const std::shared_ptr<Mapping>& mapping, Range over) {
  const auto region = std::make_shared<OpenRegion>(mapping);
  Napi::Object result = Napi::Object::New(env);
  // V8 knows what a buffer weighs that Node-API made, and not what a shared one does.
  int64_t weight = 0;
  if (over.Empty()) {
    result.Set("buffer", BufferOver(env, region));
  } else {
    weight = static_cast<int64_t>(mapping->Bytes());
    Napi::MemoryManagement::AdjustExternalMemory(env, weight);
    const auto offset = static_cast<double>(mapping->AddressRange().start - over.start);
    result.Set("offset", Napi::Number::New(env, offset));
  }
  result.Set("backing", Napi::Number::New(env, static_cast<int>(mapping->PagesOf())));
  result.Set("bytes", Napi::Number::New(env, static_cast<double>(mapping->Bytes())));
  SetMapping(&result, region, weight);
  return result;
}

Napi::Value RegionOrFailure(Napi::Env env, const Result<std::shared_ptr<Mapping>>& mapping,
                            Range over) {
  if (!mapping) return FailureObject(env, mapping.Error());
  return RegionObject(env, mapping.Value(), over);
}

Napi::Value Allocate(const Napi::CallbackInfo& info) {
  const MappingRequest request = RequestOf(info[0].As<Napi::Object>());
  return RegionOrFailure(info.Env(), Mapping::Create(request), request.over);
}

Napi::Value Alias(const Napi::CallbackInfo& info) {
  const Range over = RangeOrEmpty(info[1]);
  const std::shared_ptr<Mapping> mapping = MappingOf(info[0]);
  // What will be written through the other one is not seen.
  HolderList::Get().Finish(mapping->AddressRange());
  UFFD_BARRIER("alias-before-map", nullptr);
  const Result<std::shared_ptr<Mapping>> alias = mapping->Alias(over);
  // Nor by a load that began in between and did not know of it.
  HolderList::Get().Finish(mapping->AddressRange());
  return RegionOrFailure(info.Env(), alias, over);
}

Napi::Value IsAliased(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), MappingOf(info[0])->IsAliased());
}

// Whether it changes only through its own mapping: it is no file's, and nobody can map it again.
Napi::Value IsPrivate(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Mapping> mapping = MappingOf(info[0]);
  const bool is_private = !mapping->IsShared() && mapping->PagesOf() != Backing::kFile;
  return Napi::Boolean::New(info.Env(), is_private);
}

Napi::Value KeyOf(const Napi::CallbackInfo& info) {
  const Result<std::string> key = MappingTable::Get().KeyOf(MappingOf(info[0]));
  if (!key) return FailureObject(info.Env(), key.Error());
  return Napi::String::New(info.Env(), key.Value());
}

// Undefined when there is no such region, or the shared buffer is not the one it lies in.
Napi::Value Attach(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Mapping> mapping =
      MappingTable::Get().Enter(info[0].As<Napi::String>().Utf8Value());
  if (!mapping) return info.Env().Undefined();
  const Range over = RangeOrEmpty(info[1]);
  const bool fits = mapping->IsOver() ? over.Contains(mapping->AddressRange()) : over.Empty();
  if (fits) return RegionObject(info.Env(), mapping, over);
  mapping->Leave(false);
  return info.Env().Undefined();
}

// The memory of our own that the bytes lie in, whichever JavaScript object shows them; undefined
// where they are somebody else's.
Napi::Value MemoryAt(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Mapping> mapping = MappingTable::Get().At(ViewRange(info[0]));
  if (!mapping) return info.Env().Undefined();
  Napi::Object result = Napi::Object::New(info.Env());
  SetMapping(&result, std::make_shared<OpenRegion>(mapping, false), 0);
  return result;
}

Napi::Value DiscardPages(const Napi::CallbackInfo& info) {
  const auto range = PartOfView(info[0], info[1], info[2]);
  if (!range) return FailureObject(info.Env(), {ERANGE, "madvise(MADV_DONTNEED)"});
  const std::shared_ptr<Mapping> mapping = MappingOf(info[3]);
  HolderList::Get().BeforeDiscard(*range);
  return StatusValue(info.Env(), DiscardTracked(mapping.get(), *range));
}

// For who is about to write all of these bytes, and reads them before that.
Napi::Value EmptyLostPages(const Napi::CallbackInfo& info) {
  RangeSet emptied;
  return StatusValue(info.Env(), LostPages::Get().Empty(ViewRange(info[0]), &emptied));
}

// The pages go back now, with the last region of the mapping and the last source that reads them.
// The addresses stay taken until the garbage collector takes the ArrayBuffer: an asynchronous
// operation under way (fs.read, crypto.randomFill) holds that object and writes to them.
void Detach(const Napi::CallbackInfo& info) {
  auto buffer = info[0].As<Napi::ArrayBuffer>();
  // What was transferred is another buffer's now, until that is collected.
  if (buffer.IsDetached()) return;
  buffer.Detach();
  RegionOf(info[1])->Leave(true);
}

// The same of a region in a shared buffer, which V8 unmaps when no thread has it any more.
void Leave(const Napi::CallbackInfo& info) { RegionOf(info[0])->Leave(true); }

Napi::Value AddressInPage(const Napi::CallbackInfo& info) {
  const uint64_t page_size = info[1].IsUndefined()
                                 ? PageSize()
                                 : static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value());
  return Napi::Number::New(info.Env(), static_cast<double>(ViewRange(info[0]).start % page_size));
}

Napi::Value IsMerged(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), IsMemoryMerged());
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
  exports.Set("memoryAt", Napi::Function::New<MemoryAt>(env, "memoryAt"));
  exports.Set("isAliased", Napi::Function::New<IsAliased>(env, "isAliased"));
  exports.Set("isPrivate", Napi::Function::New<IsPrivate>(env, "isPrivate"));
  exports.Set("alias", Napi::Function::New<Alias>(env, "alias"));
  exports.Set("keyOf", Napi::Function::New<KeyOf>(env, "keyOf"));
  exports.Set("attach", Napi::Function::New<Attach>(env, "attach"));
  exports.Set("emptyLostPages", Napi::Function::New<EmptyLostPages>(env, "emptyLostPages"));
  exports.Set("discard", Napi::Function::New<DiscardPages>(env, "discard"));
  exports.Set("detach", Napi::Function::New<Detach>(env, "detach"));
  exports.Set("leave", Napi::Function::New<Leave>(env, "leave"));
  exports.Set("isMemoryMerged", Napi::Function::New<IsMerged>(env, "isMemoryMerged"));
  exports.Set("addressInPage", Napi::Function::New<AddressInPage>(env, "addressInPage"));
}

std::shared_ptr<Mapping> MappingOf(const Napi::Value& token) {
  return token.IsExternal() ? RegionOf(token)->mapping : nullptr;
}

}  // namespace uffd
