#ifndef UFFD_SNAPSHOT_WRAP_H_
#define UFFD_SNAPSHOT_WRAP_H_

#include <napi.h>

#include <memory>

#include "core/snapshot.h"

namespace uffd {

class SnapshotWrap final : public Napi::ObjectWrap<SnapshotWrap> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit SnapshotWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value Take(const Napi::CallbackInfo& info);
  Napi::Value Restore(const Napi::CallbackInfo& info);
  Napi::Value Diff(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  // Declared before the snapshot: the memories must live until its trackers have let go of them.
  Napi::ObjectReference kept_alive_;
  std::unique_ptr<Snapshot> snapshot_;
};

}  // namespace uffd

#endif  // UFFD_SNAPSHOT_WRAP_H_
