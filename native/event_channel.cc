#include "event_channel.h"

namespace uffd {

EventChannel* EventChannel::Open(Napi::Env env, Napi::Function on_readable,
                                 std::function<bool()> at_exit) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) {
    throw Napi::Error::New(env, "this environment has no event loop");
  }
  auto* channel = new EventChannel(env, on_readable, std::move(at_exit));
  uv_async_init(loop, &channel->async_, &EventChannel::OnAsync);
  channel->async_.data = channel;
  uv_unref(reinterpret_cast<uv_handle_t*>(&channel->async_));
  napi_add_async_cleanup_hook(env, &EventChannel::OnExit, channel, &channel->hook_);
  return channel;
}

EventChannel::EventChannel(Napi::Env env, Napi::Function on_readable, std::function<bool()> at_exit)
    : env_(env),
      on_readable_(Napi::Persistent(on_readable)),
      context_(env, "userfaultfd"),
      at_exit_(std::move(at_exit)) {}

void EventChannel::Poke() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!closed_) uv_async_send(&async_);
}

void EventChannel::Close(bool leak) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return;
    closed_ = true;
    leak_ = leak;
  }
  at_exit_ = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&async_), &EventChannel::OnClosed);
}

void EventChannel::SetRef(bool ref) noexcept {
  auto* handle = reinterpret_cast<uv_handle_t*>(&async_);
  if (ref) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
}

void EventChannel::OnAsync(uv_async_t* handle) {
  auto* channel = static_cast<EventChannel*>(handle->data);
  const Napi::Env env = channel->env_;
  const Napi::HandleScope scope(env);
  const napi_status status = napi_make_callback(env, channel->context_, env.Global(),
                                                channel->on_readable_.Value(), 0, nullptr, nullptr);
  if (status == napi_ok) return;
  if (env.IsExceptionPending()) {
    napi_fatal_exception(env, env.GetAndClearPendingException().Value());
    return;
  }
  // The environment runs no JavaScript any more. Before its clean-up hooks it waits for what the
  // pool does for it, which may sleep in a fault that only its JavaScript would end (test 40, A5).
  OnExit(nullptr, channel);
}

void EventChannel::OnClosed(uv_handle_t* handle) {
  auto* channel = static_cast<EventChannel*>(handle->data);
  napi_remove_async_cleanup_hook(channel->hook_);
  if (!channel->leak_) delete channel;
}

void EventChannel::OnExit(napi_async_cleanup_hook_handle /*hook*/, void* self) {
  auto* channel = static_cast<EventChannel*>(self);
  if (channel->at_exit_) channel->Close(channel->at_exit_());
}

}  // namespace uffd
