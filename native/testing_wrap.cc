#include "testing_wrap.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include <cerrno>
#include <string>

#include "convert.h"
#include "core/helper.h"
#include "core/kernel_abi.h"
#include "core/mapping.h"
#include "core/test_barrier.h"
#include "core/test_counters.h"
#include "core/test_io.h"
#include "core/test_kernel.h"
#include "core/test_seccomp.h"

namespace uffd {

#ifdef UFFD_TEST_BARRIERS

namespace {

std::string NameArgument(const Napi::CallbackInfo& info) {
  return info[0].As<Napi::String>().Utf8Value();
}

void Close(const Napi::CallbackInfo& info) { testing::CloseBarrier(NameArgument(info).c_str()); }
void Open(const Napi::CallbackInfo& info) { testing::OpenBarrier(NameArgument(info).c_str()); }
void Disable(const Napi::CallbackInfo& info) { testing::DisableNet(NameArgument(info).c_str()); }
void Inject(const Napi::CallbackInfo& info) {
  testing::InjectResolveError(info[0].As<Napi::Number>().Int32Value());
}
void InjectScan(const Napi::CallbackInfo& info) {
  testing::InjectScanError(info[0].As<Napi::Number>().Int32Value());
}
void WithholdFeatures(const Napi::CallbackInfo& info) {
  bool lossless = false;
  testing::WithholdFeatures(info[0].As<Napi::BigInt>().Uint64Value(&lossless));
}
void SetScanRoom(const Napi::CallbackInfo& info) {
  testing::SetScanRoom(info[0].As<Napi::Number>().Uint32Value());
}

void HideProtection(const Napi::CallbackInfo& info) {
  testing::HideProtection(info[0].As<Napi::Boolean>());
}

void LingerAlways(const Napi::CallbackInfo& info) {
  testing::LingerAlways(info[0].As<Napi::Boolean>());
}

void HelpAlways(const Napi::CallbackInfo& info) {
  testing::HelpAlways(info[0].As<Napi::Boolean>());
}

Napi::Value RefusePopulate(const Napi::CallbackInfo& info) {
  const int error = testing::RefusePopulateRead(info[0].As<Napi::Number>().Int32Value());
  return Napi::Number::New(info.Env(), error);
}
Napi::Value RefuseIoctl(const Napi::CallbackInfo& info) {
  const int error =
      testing::RefuseIoctl(NameArgument(info), info[1].As<Napi::Number>().Int32Value());
  return Napi::Number::New(info.Env(), error);
}
Napi::Value MergeMemory(const Napi::CallbackInfo& info) {
  const bool on = info[0].As<Napi::Boolean>().Value();
  return Napi::Number::New(info.Env(),
                           prctl(PR_SET_MEMORY_MERGE, on ? 1 : 0, 0, 0, 0) == 0 ? 0 : errno);
}
Napi::Value Refuse(const Napi::CallbackInfo& info) {
  const int error = testing::RefuseUserfaultfd(info[0].As<Napi::Number>().Int32Value());
  return Napi::Number::New(info.Env(), error);
}
Napi::Value InheritOnFork(const Napi::CallbackInfo& info) {
  return StatusValue(info.Env(), testing::InheritOnFork(ViewRange(info[0])));
}
Napi::Value MapAnew(const Napi::CallbackInfo& info) {
  return StatusValue(info.Env(), testing::MapAnew(ViewRange(info[0])));
}
Napi::Value Unmap(const Napi::CallbackInfo& info) {
  return StatusValue(info.Env(), testing::Unmap(ViewRange(info[0])));
}
Napi::Value MapTwice(const Napi::CallbackInfo& info) {
  return StatusValue(info.Env(), testing::MapTwice(ViewRange(info[0])));
}
Napi::Value MapFile(const Napi::CallbackInfo& info) {
  return StatusValue(info.Env(),
                     testing::MapFile(ViewRange(info[0]), info[1].As<Napi::String>().Utf8Value()));
}
Napi::Value TakeMappings(const Napi::CallbackInfo& info) {
  return StatusValue(info.Env(), testing::TakeMappings());
}
void GiveMappings(const Napi::CallbackInfo& info) {
  testing::GiveMappings(static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value()));
}
Napi::Value DatagramPair(const Napi::CallbackInfo& info) {
  const auto pair = testing::DatagramPair();
  if (!pair) return FailureObject(info.Env(), pair.Error());
  Napi::Array fds = Napi::Array::New(info.Env(), 2);
  fds.Set(0U, Napi::Number::New(info.Env(), pair.Value().fds[0]));
  fds.Set(1U, Napi::Number::New(info.Env(), pair.Value().fds[1]));
  return fds;
}
Napi::Value SecondHandshake(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), testing::SecondHandshake());
}
Napi::Value AwaitAt(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), testing::AwaitAt(NameArgument(info).c_str()));
}
void WriteAt(const Napi::CallbackInfo& info) {
  testing::WriteAtBarrier(NameArgument(info).c_str(),
                          reinterpret_cast<uint8_t*>(ViewRange(info[1]).start),
                          static_cast<uint8_t>(info[2].As<Napi::Number>().Uint32Value()));
}
Napi::Value Waiting(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), testing::WaitingAt(NameArgument(info).c_str()));
}

Napi::Value ForkChild(const Napi::CallbackInfo& info) {
  const auto child = testing::ForkChild(
      ViewRange(info[0]), static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value()),
      static_cast<uint8_t>(info[2].As<Napi::Number>().Uint32Value()),
      info[3].As<Napi::String>().Utf8Value());
  if (!child) return FailureObject(info.Env(), child.Error());
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("pid", Napi::Number::New(info.Env(), child.Value().pid));
  result.Set("orders", Napi::Number::New(info.Env(), child.Value().orders));
  result.Set("report", Napi::Number::New(info.Env(), child.Value().report));
  return result;
}
Napi::Value ReapChild(const Napi::CallbackInfo& info) {
  const int status = testing::ReapChild(info[0].As<Napi::Number>().Int32Value());
  return Napi::Number::New(info.Env(), status);
}
Napi::Value PinPages(const Napi::CallbackInfo& info) {
  const Result<int> pin = testing::PinPages(ViewRange(info[0]));
  if (!pin) return FailureObject(info.Env(), pin.Error());
  return Napi::Number::New(info.Env(), pin.Value());
}
Napi::Value ReadByRing(const Napi::CallbackInfo& info) {
  const auto number = [&info](size_t i) { return info[i].As<Napi::Number>().Int64Value(); };
  const Result<uint64_t> bytes =
      testing::ReadByRing(static_cast<int>(number(0)), static_cast<int>(number(1)),
                          static_cast<uint64_t>(number(2)), ViewRange(info[3]));
  if (!bytes) return FailureObject(info.Env(), bytes.Error());
  return Napi::Number::New(info.Env(), static_cast<double>(bytes.Value()));
}
Napi::Value WriteFromOutside(const Napi::CallbackInfo& info) {
  const auto value = static_cast<uint8_t>(info[1].As<Napi::Number>().Uint32Value());
  return StatusValue(info.Env(), testing::WriteFromOutside(ViewRange(info[0]), value));
}
Napi::Value Protect(const Napi::CallbackInfo& info) {
  const int prot = info[1].As<Napi::Number>().Int32Value();
  return StatusValue(info.Env(), testing::Protect(ViewRange(info[0]), prot));
}
Napi::Value Spawn(const Napi::CallbackInfo& info) {
  const Result<int> status = testing::Spawn(NameArgument(info).c_str());
  if (!status) return FailureObject(info.Env(), status.Error());
  return Napi::Number::New(info.Env(), status.Value());
}
Napi::Value ReadInThread(const Napi::CallbackInfo& info) {
  const Result<uint8_t> value = testing::ReadInThread(ViewRange(info[0]));
  if (!value) return FailureObject(info.Env(), value.Error());
  return Napi::Number::New(info.Env(), value.Value());
}
Napi::Value ScanOnce(const Napi::CallbackInfo& info) {
  RangeSet written;
  const Range memory = ViewRange(info[0]);
  const Status scanned =
      testing::ScanOnce(memory, info[1].As<Napi::Number>().Uint32Value(), &written);
  if (!scanned) return FailureObject(info.Env(), scanned.Error());
  return OffsetsArray(info.Env(), &written, memory);
}
Napi::Value RegisterEveryOther(const Napi::CallbackInfo& info) {
  const auto registered = testing::RegisterEveryOther(ViewRange(info[0]));
  if (!registered) return FailureObject(info.Env(), registered.Error());
  Napi::Object result = Napi::Object::New(info.Env());
  const auto& [count, error] = registered.Value();
  result.Set("count", Napi::Number::New(info.Env(), static_cast<double>(count)));
  result.Set("stoppedBy", Napi::Number::New(info.Env(), error));
  return result;
}
Napi::Value RegisterUnarmed(const Napi::CallbackInfo& info) {
  return StatusValue(info.Env(), testing::RegisterUnarmed(ViewRange(info[0])));
}
Napi::Value CollectAndCopy(const Napi::CallbackInfo& info) {
  const auto bytes = testing::CollectAndCopy(ViewRange(info[0]), ViewRange(info[1]));
  if (!bytes) return FailureObject(info.Env(), bytes.Error());
  return Napi::Number::New(info.Env(), static_cast<double>(bytes.Value()));
}
Napi::Value Collapse(const Napi::CallbackInfo& info) {
  return StatusValue(info.Env(), testing::Collapse(ViewRange(info[0])));
}
Napi::Value Remap(const Napi::CallbackInfo& info) {
  const auto page_size = static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value());
  return StatusValue(info.Env(), testing::Remap(ViewRange(info[0]), page_size));
}
Napi::Value GiveBack(const Napi::CallbackInfo& info) {
  const int advice = info[1].As<Napi::Number>().Int32Value();
  return StatusValue(info.Env(), testing::GiveBack(ViewRange(info[0]), advice));
}
void CountSigbus(const Napi::CallbackInfo& /*info*/) { testing::CountSigbus(); }
Napi::Value SigbusCount(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), testing::SigbusCount());
}
void BlockSigbus(const Napi::CallbackInfo& /*info*/) { testing::BlockSigbus(); }
Napi::Value HugeBytes(const Napi::CallbackInfo& info) {
  const Result<uint64_t> bytes = testing::HugeBytes(ViewRange(info[0]));
  if (!bytes) return FailureObject(info.Env(), bytes.Error());
  return Napi::Number::New(info.Env(), static_cast<double>(bytes.Value()));
}

Napi::Value Counts(const Napi::CallbackInfo& info) {
  Napi::Object counts = Napi::Object::New(info.Env());
  for (const auto& [name, calls] : testing::Counts()) {
    counts.Set(name, Napi::Number::New(info.Env(), static_cast<double>(calls)));
  }
  return counts;
}

Napi::Value HelpersAtWork(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Helper::AtWork());
}

Napi::Value DropPages(const Napi::CallbackInfo& info) {
  return StatusValue(info.Env(), Discard(ViewRange(info[0])));
}

Napi::Value MappedBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(Mapping::LiveBytes()));
}

Napi::Value AddressOf(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), ViewRange(info[0]).start);
}

}  // namespace

void DefineTesting(Napi::Env env, Napi::Object exports) {
  Napi::Object hooks = Napi::Object::New(env);
  hooks.Set("closeBarrier", Napi::Function::New<Close>(env, "closeBarrier"));
  hooks.Set("openBarrier", Napi::Function::New<Open>(env, "openBarrier"));
  hooks.Set("writeAtBarrier", Napi::Function::New<WriteAt>(env, "writeAtBarrier"));
  hooks.Set("awaitAt", Napi::Function::New<AwaitAt>(env, "awaitAt"));
  hooks.Set("waitingAt", Napi::Function::New<Waiting>(env, "waitingAt"));
  hooks.Set("disableNet", Napi::Function::New<Disable>(env, "disableNet"));
  hooks.Set("injectResolveError", Napi::Function::New<Inject>(env, "injectResolveError"));
  hooks.Set("refuseUserfaultfd", Napi::Function::New<Refuse>(env, "refuseUserfaultfd"));
  hooks.Set("injectScanError", Napi::Function::New<InjectScan>(env, "injectScanError"));
  hooks.Set("refuseIoctl", Napi::Function::New<RefuseIoctl>(env, "refuseIoctl"));
  hooks.Set("refusePopulateRead", Napi::Function::New<RefusePopulate>(env, "refusePopulateRead"));
  hooks.Set("withholdFeatures", Napi::Function::New<WithholdFeatures>(env, "withholdFeatures"));
  hooks.Set("lingerAlways", Napi::Function::New<LingerAlways>(env, "lingerAlways"));
  hooks.Set("helpAlways", Napi::Function::New<HelpAlways>(env, "helpAlways"));
  hooks.Set("helpersAtWork", Napi::Function::New<HelpersAtWork>(env, "helpersAtWork"));
  hooks.Set("hideProtection", Napi::Function::New<HideProtection>(env, "hideProtection"));
  hooks.Set("mergeMemory", Napi::Function::New<MergeMemory>(env, "mergeMemory"));
  hooks.Set("counts", Napi::Function::New<Counts>(env, "counts"));
  hooks.Set("dropPages", Napi::Function::New<DropPages>(env, "dropPages"));
  hooks.Set("mappedBytes", Napi::Function::New<MappedBytes>(env, "mappedBytes"));
  hooks.Set("inheritOnFork", Napi::Function::New<InheritOnFork>(env, "inheritOnFork"));
  hooks.Set("mapAnew", Napi::Function::New<MapAnew>(env, "mapAnew"));
  hooks.Set("unmap", Napi::Function::New<Unmap>(env, "unmap"));
  hooks.Set("mapTwice", Napi::Function::New<MapTwice>(env, "mapTwice"));
  hooks.Set("mapFile", Napi::Function::New<MapFile>(env, "mapFile"));
  hooks.Set("takeMappings", Napi::Function::New<TakeMappings>(env, "takeMappings"));
  hooks.Set("giveMappings", Napi::Function::New<GiveMappings>(env, "giveMappings"));
  hooks.Set("datagramPair", Napi::Function::New<DatagramPair>(env, "datagramPair"));
  hooks.Set("secondHandshake", Napi::Function::New<SecondHandshake>(env, "secondHandshake"));
  hooks.Set("addressOf", Napi::Function::New<AddressOf>(env, "addressOf"));
  hooks.Set("forkChild", Napi::Function::New<ForkChild>(env, "forkChild"));
  hooks.Set("reapChild", Napi::Function::New<ReapChild>(env, "reapChild"));
  hooks.Set("pinPages", Napi::Function::New<PinPages>(env, "pinPages"));
  hooks.Set("readByRing", Napi::Function::New<ReadByRing>(env, "readByRing"));
  hooks.Set("writeFromOutside", Napi::Function::New<WriteFromOutside>(env, "writeFromOutside"));
  hooks.Set("protect", Napi::Function::New<Protect>(env, "protect"));
  hooks.Set("spawn", Napi::Function::New<Spawn>(env, "spawn"));
  hooks.Set("readInThread", Napi::Function::New<ReadInThread>(env, "readInThread"));
  hooks.Set("scanOnce", Napi::Function::New<ScanOnce>(env, "scanOnce"));
  hooks.Set("setScanRoom", Napi::Function::New<SetScanRoom>(env, "setScanRoom"));
  hooks.Set("registerEveryOther",
            Napi::Function::New<RegisterEveryOther>(env, "registerEveryOther"));
  hooks.Set("registerUnarmed", Napi::Function::New<RegisterUnarmed>(env, "registerUnarmed"));
  hooks.Set("collectAndCopy", Napi::Function::New<CollectAndCopy>(env, "collectAndCopy"));
  hooks.Set("collapse", Napi::Function::New<Collapse>(env, "collapse"));
  hooks.Set("giveBack", Napi::Function::New<GiveBack>(env, "giveBack"));
  hooks.Set("countSigbus", Napi::Function::New<CountSigbus>(env, "countSigbus"));
  hooks.Set("sigbusCount", Napi::Function::New<SigbusCount>(env, "sigbusCount"));
  hooks.Set("blockSigbus", Napi::Function::New<BlockSigbus>(env, "blockSigbus"));
  hooks.Set("remap", Napi::Function::New<Remap>(env, "remap"));
  hooks.Set("hugeBytes", Napi::Function::New<HugeBytes>(env, "hugeBytes"));
  exports.Set("testing", hooks);
}

#else

void DefineTesting(Napi::Env /*env*/, Napi::Object /*exports*/) {}

#endif  // UFFD_TEST_BARRIERS

}  // namespace uffd
