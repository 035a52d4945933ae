#ifndef UFFD_DIRTY_TRACKER_WRAP_H_
#define UFFD_DIRTY_TRACKER_WRAP_H_

#include <napi.h>

#include <memory>

#include "core/dirty_tracker.h"
#include "core/range.h"

namespace uffd {

// One tracker of one memory as a JavaScript object.
class DirtyTrackerWrap final : public Napi::ObjectWrap<DirtyTrackerWrap> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit DirtyTrackerWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value Open(const Napi::CallbackInfo& info);
  Napi::Value Collect(const Napi::CallbackInfo& info);
  Napi::Value Peek(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info,
                   Status (DirtyTracker::*read)(RangeSet* dirty) noexcept);
  void MarkDirty(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  // Declared before the tracker: the memory must live until the tracker has let go of it.
  Napi::ObjectReference kept_alive_;
  std::unique_ptr<DirtyTracker> tracker_;
  Range bytes_;
};

}  // namespace uffd

#endif  // UFFD_DIRTY_TRACKER_WRAP_H_
