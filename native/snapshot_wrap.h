#ifndef UFFD_SNAPSHOT_WRAP_H_
#define UFFD_SNAPSHOT_WRAP_H_

#include <napi.h>

#include <memory>

#include "core/snapshot.h"
#include "event_channel.h"

namespace uffd {

class SnapshotWrap final : public Napi::ObjectWrap<SnapshotWrap> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit SnapshotWrap(const Napi::CallbackInfo& info);
  ~SnapshotWrap() override;

 private:
  Napi::Value Take(const Napi::CallbackInfo& info);
  Napi::Value TakeCopyOnWrite(const Napi::CallbackInfo& info);
  Napi::Value State(const Napi::CallbackInfo& info);
  Napi::Value Restore(const Napi::CallbackInfo& info);
  Napi::Value Written(const Napi::CallbackInfo& info);
  Napi::Value Diff(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  // For it to settle.
  void KeepWaiting(const Napi::CallbackInfo& info);
  void StopWaiting(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  static void ReinstallSigbusHandler(const Napi::CallbackInfo& info);
  void CloseChannel() noexcept;

  // Declared before the snapshot: the memories must live until its trackers have let go of them.
  Napi::ObjectReference kept_alive_;
  std::unique_ptr<Snapshot> snapshot_;
  EventChannel* channel_ = nullptr;  // until a copy-on-write snapshot has settled
};

}  // namespace uffd

#endif  // UFFD_SNAPSHOT_WRAP_H_
