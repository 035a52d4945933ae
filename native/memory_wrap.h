#ifndef UFFD_MEMORY_WRAP_H_
#define UFFD_MEMORY_WRAP_H_

#include <napi.h>

#include <memory>

#include "core/mapping.h"

namespace uffd {

void DefineMemory(Napi::Env env, Napi::Object exports);
// The mapping behind the token that `allocate` returned; null for memory that is not ours.
std::shared_ptr<Mapping> MappingOf(const Napi::Value& token);

}  // namespace uffd

#endif  // UFFD_MEMORY_WRAP_H_
