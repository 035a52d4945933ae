#include <dlfcn.h>
#include <napi.h>

#include <atomic>
#include <mutex>
#include <set>
#include <string>

#include "convert.h"
#include "core/pagemap.h"
#include "core/probe.h"
#include "core/process_end.h"
#include "core/registry.h"
#include "core/test_barrier.h"
#include "dirty_tracker_wrap.h"
#include "lazy_load_wrap.h"
#include "memory_wrap.h"
#include "page_digests_wrap.h"
#include "snapshot_file_wrap.h"
#include "snapshot_history_wrap.h"
#include "snapshot_wrap.h"
#include "testing_wrap.h"
#include "userfaultfd_wrap.h"

namespace uffd {
namespace {

// A Worker that loaded the addon may end first; Node then unloads it while native threads run in
// it.
void PinInMemory() {
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(&PinInMemory), &self) == 0) return;
  dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
}

Napi::Value ProbeFacts(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Probe probe = ProbeKernel();
  Napi::Object facts = Napi::Object::New(env);
  facts.Set("pageSize", Napi::Number::New(env, static_cast<double>(probe.page_size)));
  facts.Set("attempts", AttemptsArray(env, probe.attempts));
  facts.Set("features", Napi::BigInt::New(env, probe.features));
  facts.Set("ioctls", Napi::BigInt::New(env, probe.ioctls));
  facts.Set("pagemapOpenErrno", Napi::Number::New(env, -probe.pagemap_open_error));
  facts.Set("pagemapScanErrno", Napi::Number::New(env, -probe.pagemap_scan_error));
  facts.Set("wpAsyncErrno", Napi::Number::New(env, -probe.wp_async_error));
  return facts;
}

Napi::Value HasSource(const Napi::CallbackInfo& info) {
  const auto part = PartOfView(info[0], info[1], info[2]);
  return Napi::Boolean::New(info.Env(), part && Registry::Get().HasSource(*part));
}

Napi::Value MayFault(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), Registry::Get().MayFault(ViewRange(info[0])));
}

void ReleaseAll(const Napi::CallbackInfo& /*info*/) {
  if (UFFD_NET_ENABLED("exit")) Registry::Get().ReleaseAll();
}

// Who asks first puts the listener: two copies of the package are two addons with a registry each,
// one that is loaded many times is one.
Napi::Value ClaimExit(const Napi::CallbackInfo& info) {
  static std::atomic<bool> claimed{false};
  return Napi::Boolean::New(info.Env(), !claimed.exchange(true));
}

// What is said once: a process has several threads, each with its own JavaScript.
Napi::Value IsFirst(const Napi::CallbackInfo& info) {
  static std::mutex mutex;
  static auto* const said = new std::set<std::string>();
  const std::lock_guard<std::mutex> lock(mutex);
  return Napi::Boolean::New(info.Env(), said->insert(info[0].As<Napi::String>()).second);
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  PinInMemory();
  static_cast<void>(Pagemap::Descriptor().Ok());
  static_cast<void>(ProcessEnd::Descriptor().Ok());
  DefineMemory(env, exports);
  DefineDirtyTracker(env, exports);
  DefineSnapshotFile(env, exports);
  DefinePageDigests(env, exports);
  exports.Set("probe", Napi::Function::New<ProbeFacts>(env, "probe"));
  exports.Set("hasSource", Napi::Function::New<HasSource>(env, "hasSource"));
  exports.Set("mayFault", Napi::Function::New<MayFault>(env, "mayFault"));
  exports.Set("releaseAll", Napi::Function::New<ReleaseAll>(env, "releaseAll"));
  exports.Set("claimExit", Napi::Function::New<ClaimExit>(env, "claimExit"));
  exports.Set("isFirst", Napi::Function::New<IsFirst>(env, "isFirst"));
  exports.Set("Userfaultfd", UserfaultfdWrap::Define(env));
  exports.Set("LazyLoad", LazyLoadWrap::Define(env));
  exports.Set("Snapshot", SnapshotWrap::Define(env));
  exports.Set("SnapshotHistory", SnapshotHistoryWrap::Define(env));
  DefineTesting(env, exports);
  return exports;
}

NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)

}  // namespace
}  // namespace uffd
