#include "event_channel.h"

#include <poll.h>
#include <sched.h>

#include <utility>

#include "core/test_barrier.h"

namespace uffd {
namespace {

constexpr uint64_t kMostAtOnce = 1'000'000;  // ns

}  // namespace

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
  if (closed_) return;
  if (lingering_) {
    poked_ = true;
  } else {
    uv_async_send(&async_);
  }
}

void EventChannel::Close(bool leak) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return;
    closed_ = true;
    leak_ = leak;
  }
  at_exit_ = nullptr;
  reader_ = nullptr;
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
  static_cast<EventChannel*>(handle->data)->Deliver();
}

void EventChannel::Deliver() noexcept {
  const uint64_t woken = uv_hrtime();
  linger_.Woken(woken);
  // The reader may close the channel and run the event loop itself.
  bool gone = false;
  bool* const outer = std::exchange(gone_, &gone);
  bool more = true;
  while (more && CallReader(gone)) {
    // Whatever else the event loop has to do waits meanwhile.
    more = uv_hrtime() - woken < kMostAtOnce && PokedSoon();
  }
  if (gone) {
    if (outer != nullptr) *outer = true;
    return;
  }
  gone_ = outer;
  if (reader_ != nullptr) reader_->LeaveReading();
  linger_.Ended(uv_hrtime());
}

bool EventChannel::CallReader(const bool& gone) noexcept {
  const Napi::Env env = env_;
  const Napi::HandleScope scope(env);
  const napi_status status =
      napi_make_callback(env, context_, env.Global(), on_readable_.Value(), 0, nullptr, nullptr);
  if (status == napi_ok) return !gone;
  if (env.IsExceptionPending()) {
    napi_fatal_exception(env, env.GetAndClearPendingException().Value());
    return false;
  }
  if (gone) return false;
  // The environment runs no JavaScript any more. Before its clean-up hooks it waits for what the
  // pool does for it, which may sleep in a fault that only its JavaScript would end (test 40, A5).
  OnExit(nullptr, this);
  return false;
}

bool EventChannel::PokedSoon() noexcept {
  if (reader_ == nullptr || !reader_->TakeAllAnswered()) return false;
  if (!linger_.IsWorthIt() && !UFFD_LINGERS_ALWAYS()) return false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    lingering_ = true;
    poked_ = false;
  }
  const uint64_t until = uv_hrtime() + Lingering::kLongest;
  // Who was just woken may have run and faulted already. Else it may be on this processor, and
  // faults as soon as it runs.
  reader_->ReadFaults();
  while (!poked_ && uv_hrtime() < until) {
    sched_yield();
    reader_->ReadFaults();
    if (!poked_ && HasOtherWork()) break;
  }
  const bool in_time = uv_hrtime() < until;
  const std::lock_guard<std::mutex> lock(mutex_);
  lingering_ = false;
  // Not when something else to do came first.
  if (poked_ || !in_time) linger_.Waited(poked_ && in_time);
  return poked_;
}

bool EventChannel::HasOtherWork() noexcept {
  uv_loop_t* const loop = async_.loop;
  uv_update_time(loop);
  if (uv_backend_timeout(loop) == 0) return true;
  pollfd ready{uv_backend_fd(loop), POLLIN, 0};
  return poll(&ready, 1, 0) != 0;
}

void EventChannel::OnClosed(uv_handle_t* handle) {
  auto* channel = static_cast<EventChannel*>(handle->data);
  napi_remove_async_cleanup_hook(channel->hook_);
  if (channel->leak_) return;
  if (channel->gone_ != nullptr) *channel->gone_ = true;
  delete channel;
}

void EventChannel::OnExit(napi_async_cleanup_hook_handle /*hook*/, void* self) {
  auto* channel = static_cast<EventChannel*>(self);
  if (channel->at_exit_) channel->Close(channel->at_exit_());
}

}  // namespace uffd
