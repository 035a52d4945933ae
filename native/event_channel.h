// Tells one environment's event loop that events wait. Coalesced and non-blocking: a poke is one
// uv_async_send, which takes no lock of Node's and allocates nothing.
#ifndef UFFD_EVENT_CHANNEL_H_
#define UFFD_EVENT_CHANNEL_H_

#include <napi.h>
#include <uv.h>

#include <atomic>
#include <functional>
#include <mutex>

#include "core/awake_reader.h"
#include "core/fault_loop.h"
#include "lingering.h"

namespace uffd {

class EventChannel final : public Notifier {
 public:
  // `at_exit` runs when the environment ends before Close() was called; it returns what Close()
  // takes.
  static EventChannel* Open(Napi::Env env, Napi::Function on_readable,
                            std::function<bool()> at_exit);
  // Once its faults were answered the event loop stays awake for the next ones of this, which must
  // live until Close().
  void StayAwakeFor(AwakeReader* reader) noexcept { reader_ = reader; }

  void Poke() noexcept override;
  // The object deletes itself when libuv has let go of it; `leak` keeps it for a loop that would
  // not end.
  void Close(bool leak) noexcept;
  // Whether waiting for events keeps the process alive.
  void SetRef(bool ref) noexcept;

 private:
  EventChannel(Napi::Env env, Napi::Function on_readable, std::function<bool()> at_exit);
  ~EventChannel() override = default;

  void Deliver() noexcept;
  // False: JavaScript runs no more, an exception of its reader was nobody's, or this is `gone`.
  bool CallReader(const bool& gone) noexcept;
  bool PokedSoon() noexcept;
  // Of the event loop: what it would do now instead of sleeping.
  bool HasOtherWork() noexcept;
  static void OnAsync(uv_async_t* handle);
  static void OnClosed(uv_handle_t* handle);
  static void OnExit(napi_async_cleanup_hook_handle hook, void* self);

  Napi::Env env_;
  Napi::FunctionReference on_readable_;
  Napi::AsyncContext context_;
  std::function<bool()> at_exit_;  // empty once closed: its owner may be gone
  napi_async_cleanup_hook_handle hook_ = nullptr;
  uv_async_t async_{};
  std::mutex mutex_;  // between a poke and the close; held for no system call that waits
  bool closed_ = false;
  bool leak_ = false;
  bool lingering_ = false;
  std::atomic<bool> poked_{false};  // while lingering
  bool* gone_ = nullptr;            // set when this is deleted under those who run in it
  AwakeReader* reader_ = nullptr;   // null once closed
  Lingering linger_;
};

}  // namespace uffd

#endif  // UFFD_EVENT_CHANNEL_H_
