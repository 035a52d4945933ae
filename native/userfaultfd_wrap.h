#ifndef UFFD_USERFAULTFD_WRAP_H_
#define UFFD_USERFAULTFD_WRAP_H_

#include <napi.h>

#include <map>
#include <memory>

#include "core/session.h"
#include "event_channel.h"

namespace uffd {

// One Session as a JavaScript object. Arguments were checked in TypeScript.
class UserfaultfdWrap final : public Napi::ObjectWrap<UserfaultfdWrap> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit UserfaultfdWrap(const Napi::CallbackInfo& info);
  ~UserfaultfdWrap() override;

 private:
  Napi::Value Open(const Napi::CallbackInfo& info);
  Napi::Value Register(const Napi::CallbackInfo& info);
  Napi::Value Unregister(const Napi::CallbackInfo& info);
  Napi::Value WriteProtect(const Napi::CallbackInfo& info);
  Napi::Value Wake(const Napi::CallbackInfo& info);
  Napi::Value Copy(const Napi::CallbackInfo& info);
  Napi::Value Zeropage(const Napi::CallbackInfo& info);
  Napi::Value Continue(const Napi::CallbackInfo& info);
  Napi::Value Poison(const Napi::CallbackInfo& info);
  Napi::Value Move(const Napi::CallbackInfo& info);
  Napi::Value ResolveFault(const Napi::CallbackInfo& info);
  Napi::Value EndingOf(const Napi::CallbackInfo& info);
  Napi::Value TakeChild(const Napi::CallbackInfo& info);
  Napi::Value IsChildOpen(const Napi::CallbackInfo& info);
  Napi::Value OnChild(const Napi::CallbackInfo& info);
  void CloseChild(const Napi::CallbackInfo& info);
  void SetConsumer(const Napi::CallbackInfo& info);
  Napi::Value ArmedBytes(const Napi::CallbackInfo& info);
  Napi::Value Drain(const Napi::CallbackInfo& info);
  Napi::Value Released(const Napi::CallbackInfo& info);
  Napi::Value FailedWith(const Napi::CallbackInfo& info);
  Napi::Value Missed(const Napi::CallbackInfo& info);
  Napi::Value HasEvents(const Napi::CallbackInfo& info);
  void SetRef(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  using RangeStep = Partial (Session::*)(Range range, uint64_t mode) noexcept;
  Napi::Value OnRange(const Napi::CallbackInfo& info, RangeStep step);
  void ReleaseAndClose() noexcept;

  std::shared_ptr<Session> session_;
  EventChannel* channel_ = nullptr;
  // Memory stays alive while it is registered. The destructor releases the session before this
  // goes.
  std::map<uint32_t, Napi::ObjectReference> kept_alive_;
};

}  // namespace uffd

#endif  // UFFD_USERFAULTFD_WRAP_H_
