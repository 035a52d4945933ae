#ifndef UFFD_LAZY_LOAD_WRAP_H_
#define UFFD_LAZY_LOAD_WRAP_H_

#include <napi.h>

#include <memory>

#include "core/lazy_load.h"
#include "event_channel.h"

namespace uffd {

class LazyLoadWrap final : public Napi::ObjectWrap<LazyLoadWrap> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit LazyLoadWrap(const Napi::CallbackInfo& info);
  ~LazyLoadWrap() override;

 private:
  Napi::Value Start(const Napi::CallbackInfo& info);
  Napi::Value State(const Napi::CallbackInfo& info);
  Napi::Value Touches(const Napi::CallbackInfo& info);
  void Complete(const Napi::CallbackInfo& info);
  // For it to be over.
  void KeepWaiting(const Napi::CallbackInfo& info);
  void StopWaiting(const Napi::CallbackInfo& info);
  void CloseChannel() noexcept;

  Napi::ObjectReference kept_alive_;
  std::shared_ptr<LazyLoad> load_;
  EventChannel* channel_ = nullptr;  // until it is over
};

}  // namespace uffd

#endif  // UFFD_LAZY_LOAD_WRAP_H_
