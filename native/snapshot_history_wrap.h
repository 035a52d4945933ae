#ifndef UFFD_SNAPSHOT_HISTORY_WRAP_H_
#define UFFD_SNAPSHOT_HISTORY_WRAP_H_

#include <napi.h>

#include <memory>

#include "core/snapshot_history.h"

namespace uffd {

class SnapshotHistoryWrap final : public Napi::ObjectWrap<SnapshotHistoryWrap> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit SnapshotHistoryWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value Track(const Napi::CallbackInfo& info);
  Napi::Value Take(const Napi::CallbackInfo& info);
  Napi::Value CheckRestore(const Napi::CallbackInfo& info);
  Napi::Value Restore(const Napi::CallbackInfo& info);
  Napi::Value Diff(const Napi::CallbackInfo& info);
  Napi::Value DiffLive(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value Drop(const Napi::CallbackInfo& info);
  void KeepUp(const Napi::CallbackInfo& info);
  Napi::Value Bytes(const Napi::CallbackInfo& info);
  Napi::Value AddedBytes(const Napi::CallbackInfo& info);
  Napi::Value OwnBytes(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  // Declared before the history: the memories must live until its trackers have let go of them.
  Napi::ObjectReference kept_alive_;
  std::unique_ptr<SnapshotHistory> history_;
};

}  // namespace uffd

#endif  // UFFD_SNAPSHOT_HISTORY_WRAP_H_
