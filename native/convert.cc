#include "convert.h"

#include <algorithm>
#include <iterator>

namespace uffd {

Napi::Object FailureObject(Napi::Env env, const Failure& failure) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("errno", Napi::Number::New(env, -failure.error));
  object.Set("syscall", Napi::String::New(env, failure.call));
  return object;
}

Napi::Value StatusValue(Napi::Env env, const Status& status) {
  if (status) return env.Undefined();
  return FailureObject(env, status.Error());
}

Napi::Array AttemptsArray(Napi::Env env, const std::vector<Attempt>& attempts) {
  Napi::Array array = Napi::Array::New(env, attempts.size());
  for (uint32_t i = 0; i < attempts.size(); i++) {
    Napi::Object attempt = Napi::Object::New(env);
    attempt.Set("access", Napi::Number::New(env, static_cast<int>(attempts[i].access)));
    attempt.Set("errno", Napi::Number::New(env, -attempts[i].error));
    array.Set(i, attempt);
  }
  return array;
}

Napi::Object PartialObject(Napi::Env env, const Partial& partial) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("bytes", Napi::Number::New(env, static_cast<double>(partial.bytes)));
  object.Set("errno", Napi::Number::New(env, -partial.error));
  return object;
}

Range ViewRange(const Napi::Value& view) {
  void* data = nullptr;
  size_t length = 0;
  napi_typedarray_type type{};
  const napi_status status =
      napi_get_typedarray_info(view.Env(), view, &type, &length, &data, nullptr, nullptr);
  if (status != napi_ok || type != napi_uint8_array) {
    throw Napi::TypeError::New(view.Env(), "a Uint8Array is expected");
  }
  const auto start = reinterpret_cast<uint64_t>(data);
  return {start, start + length};
}

std::vector<Range> ViewRanges(const Napi::Value& views) {
  const auto array = views.As<Napi::Array>();
  std::vector<Range> ranges;
  for (uint32_t i = 0; i < array.Length(); i++) ranges.push_back(ViewRange(array.Get(i)));
  return ranges;
}

std::optional<Range> PartOfView(const Napi::Value& view, const Napi::Value& offset,
                                const Napi::Value& length) {
  const Range whole = ViewRange(view);
  const auto from = static_cast<uint64_t>(offset.As<Napi::Number>().Int64Value());
  const auto bytes = static_cast<uint64_t>(length.As<Napi::Number>().Int64Value());
  if (from > whole.Length() || bytes > whole.Length() - from) return std::nullopt;
  return Range{whole.start + from, whole.start + from + bytes};
}

std::vector<Range> RangesOf(const Napi::Value& offsets, Range memory) {
  const auto numbers = offsets.As<Napi::Float64Array>();
  std::vector<Range> ranges;
  ranges.reserve(numbers.ElementLength() / 2);
  for (size_t i = 0; i + 1 < numbers.ElementLength(); i += 2) {
    const uint64_t start = memory.start + static_cast<uint64_t>(numbers[i]);
    const uint64_t end = start + static_cast<uint64_t>(numbers[i + 1]);
    ranges.push_back(Range{start, end}.Intersect(memory));
  }
  return ranges;
}

Napi::Float64Array OffsetsArray(Napi::Env env, RangeSet* pages, Range memory) {
  const std::vector<Range>& ranges = pages->Ranges();
  // Sorted and disjoint: only the first and the last can reach over an edge of the memory.
  const auto reaches = [&](const Range& range) { return range.end > memory.start; };
  const auto first = std::find_if(ranges.begin(), ranges.end(), reaches);
  auto end = ranges.end();
  while (end != first && std::prev(end)->start >= memory.end) --end;
  const auto count = static_cast<size_t>(end - first);
  Napi::Float64Array offsets = Napi::Float64Array::New(env, count * 2);
  if (count == 0) return offsets;
  double* out = offsets.Data();
  for (auto range = first; range != end; ++range) {
    *out++ = static_cast<double>(static_cast<int64_t>(range->start - memory.start));
    *out++ = static_cast<double>(static_cast<int64_t>(range->Length()));
  }
  const Range head = first->Intersect(memory);
  offsets[0] = static_cast<double>(head.start - memory.start);
  offsets[1] = static_cast<double>(head.Length());
  const Range tail = std::prev(end)->Intersect(memory);
  offsets[count * 2 - 1] = static_cast<double>(tail.Length());
  return offsets;
}

// A string, as V8 makes one among its young objects, in memory that has its pages: an ArrayBuffer
// is new memory with a fault for each.
Napi::String PackedPagesString(Napi::Env env, std::string_view packed) {
  napi_value string = nullptr;
  const napi_status made = napi_create_string_latin1(env, packed.data(), packed.size(), &string);
  NAPI_THROW_IF_FAILED(env, made, Napi::String());
  return {env, string};
}

Napi::Object WritesObject(Napi::Env env, const WriteLog& log, Range memory) {
  Napi::Float64Array writes = Napi::Float64Array::New(env, log.Writes().size() * 2);
  size_t used = 0;
  for (const Write& write : log.Writes()) {
    if (!memory.Contains({write.address, write.address + 1})) continue;
    writes[used++] = static_cast<double>(write.address - memory.start);
    writes[used++] = write.thread_id;
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("writes", Napi::Float64Array::New(env, used, writes.ArrayBuffer(), 0));
  result.Set("missed", Napi::Number::New(env, static_cast<double>(log.Missed())));
  return result;
}

}  // namespace uffd
