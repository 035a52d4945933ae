// Between core's values and JavaScript's.
#ifndef UFFD_CONVERT_H_
#define UFFD_CONVERT_H_

#include <napi.h>

#include <optional>
#include <string_view>
#include <vector>

#include "core/range.h"
#include "core/result.h"
#include "core/userfaultfd.h"
#include "core/write_log.h"

namespace uffd {

// { errno: negative, syscall }: lib/errors.ts makes the Error.
Napi::Object FailureObject(Napi::Env env, const Failure& failure);
Napi::Value StatusValue(Napi::Env env, const Status& status);  // undefined when it went well
Napi::Array AttemptsArray(Napi::Env env, const std::vector<Attempt>& attempts);
Napi::Object PartialObject(Napi::Env env, const Partial& partial);

// The memory under a Uint8Array, also over a SharedArrayBuffer.
Range ViewRange(const Napi::Value& view);
std::vector<Range> ViewRanges(const Napi::Value& views);
// Nothing when offset and length do not lie in the view (it may have shrunk since it was checked).
std::optional<Range> PartOfView(const Napi::Value& view, const Napi::Value& offset,
                                const Napi::Value& length);
// Of [offset, length, …] in bytes from the start of `memory`, clipped to it.
std::vector<Range> RangesOf(const Napi::Value& offsets, Range memory);
// [offset, length, …] in bytes from the start of `memory`, clipped to it.
Napi::Float64Array OffsetsArray(Napi::Env env, RangeSet* pages, Range memory);
// What a tracker found, for who may never look at every range (core/packed_pages.h).
Napi::String PackedPagesString(Napi::Env env, std::string_view packed);
// { writes: [offset, thread id, …] of those in `memory`, missed }.
Napi::Object WritesObject(Napi::Env env, const WriteLog& log, Range memory);

}  // namespace uffd

#endif  // UFFD_CONVERT_H_
