#ifndef UFFD_DIRTY_TRACKER_WRAP_H_
#define UFFD_DIRTY_TRACKER_WRAP_H_

#include <napi.h>

#include <memory>

#include "core/dirty_consumer.h"
#include "core/range.h"

namespace uffd {

// One reader of one tracked memory as a JavaScript object.
class DirtyTrackerWrap final : public Napi::ObjectWrap<DirtyTrackerWrap> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit DirtyTrackerWrap(const Napi::CallbackInfo& info);

 private:
  using Read = Status (DirtyConsumer::*)(Range now, PackedPages* dirty) noexcept;
  using Mark = void (DirtyConsumer::*)(Range bytes) noexcept;

  Napi::Value Open(const Napi::CallbackInfo& info);
  Napi::Value Join(const Napi::CallbackInfo& info);
  Napi::Value Collect(const Napi::CallbackInfo& info);
  Napi::Value Peek(const Napi::CallbackInfo& info);
  Napi::Value TakeWrites(const Napi::CallbackInfo& info);
  void MarkDirty(const Napi::CallbackInfo& info);
  void PutBack(const Napi::CallbackInfo& info);
  // A WeakRef would hold the memory to the end of the job that made it, and so change when a
  // program runs out of memories (test 71).
  void HoldWeakly(const Napi::CallbackInfo& info);
  Napi::Value Memory(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  Napi::Value ReadPages(const Napi::CallbackInfo& info, Read read);
  void MarkPages(const Napi::CallbackInfo& info, Mark mark);

  // Declared before the consumer: the memory must live until the tracker has let go of it.
  Napi::ObjectReference kept_alive_;
  std::unique_ptr<DirtyConsumer> consumer_;
};

}  // namespace uffd

#endif  // UFFD_DIRTY_TRACKER_WRAP_H_
