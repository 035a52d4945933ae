// Digests of pages, made by the thread of JavaScript and by libuv's pool.
#ifndef UFFD_PAGE_DIGESTS_WRAP_H_
#define UFFD_PAGE_DIGESTS_WRAP_H_

#include <napi.h>

namespace uffd {

void DefinePageDigests(Napi::Env env, Napi::Object exports);

}  // namespace uffd

#endif  // UFFD_PAGE_DIGESTS_WRAP_H_
