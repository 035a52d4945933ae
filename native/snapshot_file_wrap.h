// What snapshot files need of memory.
#ifndef UFFD_SNAPSHOT_FILE_WRAP_H_
#define UFFD_SNAPSHOT_FILE_WRAP_H_

#include <napi.h>

namespace uffd {

void DefineSnapshotFile(Napi::Env env, Napi::Object exports);

}  // namespace uffd

#endif  // UFFD_SNAPSHOT_FILE_WRAP_H_
