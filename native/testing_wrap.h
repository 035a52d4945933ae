#ifndef UFFD_TESTING_WRAP_H_
#define UFFD_TESTING_WRAP_H_

#include <napi.h>

namespace uffd {

// Adds `testing` to the exports of the test build; the shipped addon gets nothing.
void DefineTesting(Napi::Env env, Napi::Object exports);

}  // namespace uffd

#endif  // UFFD_TESTING_WRAP_H_
