#include "snapshot_file_wrap.h"

#include "convert.h"
#include "core/nonzero_pages.h"
#include "core/sha256.h"

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

// The SHA-256 of each page of the first into the second; false in a Node without OpenSSL.
Napi::Value DigestPages(const Napi::CallbackInfo& info) {
  const Range pages = ViewRange(info[0]);
  const auto page_size = static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value());
  auto* to = reinterpret_cast<Sha256Digest*>(ViewRange(info[2]).start);
  if (!HasSha256()) return Napi::Boolean::New(info.Env(), false);
  for (uint64_t page = pages.start; page < pages.end; page += page_size) {
    *to++ = Sha256Of(reinterpret_cast<const uint8_t*>(page), page_size);
  }
  return Napi::Boolean::New(info.Env(), true);
}

}  // namespace

void DefineSnapshotFile(Napi::Env env, Napi::Object exports) {
  exports.Set("nonZeroPages", Napi::Function::New<NonZero>(env, "nonZeroPages"));
  exports.Set("digestPages", Napi::Function::New<DigestPages>(env, "digestPages"));
  exports.Set("nonZeroPagesThatExist",
              Napi::Function::New<NonZeroThatExist>(env, "nonZeroPagesThatExist"));
}

}  // namespace uffd
