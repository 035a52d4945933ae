// The readers of tracked memories, for JavaScript: each is an External and the first argument of
// these functions. A method of a wrapped object is found by way of four more objects, none of them
// in a cache where there are a thousand trackers (bench case growth).
#ifndef UFFD_DIRTY_TRACKER_WRAP_H_
#define UFFD_DIRTY_TRACKER_WRAP_H_

#include <napi.h>

namespace uffd {

void DefineDirtyTracker(Napi::Env env, Napi::Object exports);

}  // namespace uffd

#endif  // UFFD_DIRTY_TRACKER_WRAP_H_
