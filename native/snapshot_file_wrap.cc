#include "snapshot_file_wrap.h"

#include "convert.h"
#include "core/nonzero_pages.h"

namespace uffd {
namespace {

Napi::Value NonZero(const Napi::CallbackInfo& info) {
  const Range bytes = ViewRange(info[0]);
  RangeSet pages =
      NonZeroPages(bytes, static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value()));
  return OffsetsArray(info.Env(), &pages, bytes);
}

Napi::Value NonZeroThatExist(const Napi::CallbackInfo& info) {
  const Range memory = ViewRange(info[0]);
  RangeSet pages =
      NonZeroPagesThatExist(memory, static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value()));
  return OffsetsArray(info.Env(), &pages, memory);
}

}  // namespace

void DefineSnapshotFile(Napi::Env env, Napi::Object exports) {
  exports.Set("nonZeroPages", Napi::Function::New<NonZero>(env, "nonZeroPages"));
  exports.Set("nonZeroPagesThatExist",
              Napi::Function::New<NonZeroThatExist>(env, "nonZeroPagesThatExist"));
}

}  // namespace uffd
