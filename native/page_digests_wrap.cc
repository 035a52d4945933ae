#include "page_digests_wrap.h"

#include <atomic>
#include <memory>
#include <optional>
#include <utility>

#include "convert.h"
#include "core/page_digests.h"
#include "core/test_barrier.h"
#include "thread_pool.h"

namespace uffd {
namespace {

// Below it a thread of the pool would come too late.
constexpr uint64_t kLeastShared = 16;
// How many the pool was asked for that it has not begun, in the whole process: it may be busy for
// long.
constexpr int kMostAsked = 4;
std::atomic<int> g_asked = 0;

class PoolWork;

// Made, used and let go of by the thread of JavaScript, but for `digests`.
struct Job {
  Job(const Napi::Value& pages, uint64_t page_size, const Napi::Value& to)
      : digests(ViewRange(pages), page_size, reinterpret_cast<Sha256Digest*>(ViewRange(to).start)),
        pages(Napi::Persistent(pages.As<Napi::Object>())),
        to(Napi::Persistent(to.As<Napi::Object>())) {}

  // Nobody has a need of the memory any more.
  void LetGo() noexcept {
    pages.Reset();
    to.Reset();
  }

  PageDigests digests;
  Napi::ObjectReference pages;
  Napi::ObjectReference to;
  std::optional<Napi::Promise::Deferred> made;
  PoolWork* work = nullptr;  // until it is over
};

using JobRef = std::shared_ptr<Job>;

class PoolWork final : public Napi::AsyncWorker {
 public:
  PoolWork(Napi::Env env, JobRef job) : Napi::AsyncWorker(env), job_(std::move(job)) {
    job_->work = this;
    g_asked++;
  }
  ~PoolWork() override {
    job_->work = nullptr;
    Begin();
  }

  // A pool that is busy for long would keep a Worker from ending that has no need of it any more.
  // One that has begun is over soon.
  void CallOff() noexcept { static_cast<void>(napi_cancel_async_work(Env(), *this)); }

 protected:
  void Execute() override {
    Begin();
    while (const auto page = job_->digests.Claim()) {
      UFFD_BARRIER("pool makes a digest", nullptr);
      job_->digests.Make(*page);
    }
  }

  // All are made: each was somebody's, and the thread of JavaScript leaves none half made.
  void OnOK() override {
    job_->LetGo();
    if (job_->made) job_->made->Resolve(Env().Undefined());
  }

 private:
  void Begin() noexcept {
    if (!has_begun_) g_asked--;
    has_begun_ = true;
  }

  const JobRef job_;
  bool has_begun_ = false;
};

// beginDigests(pages, pageSize, to): asks the pool. Undefined in a Node.js without OpenSSL.
Napi::Value BeginDigests(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!HasSha256()) return env.Undefined();
  const auto page_size = static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value());
  auto job = std::make_shared<Job>(info[0], page_size, info[2]);
  if (job->digests.Count() >= kLeastShared && g_asked < kMostAsked && PoolCanStart()) {
    (new PoolWork(env, job))->Queue();
  }
  return Napi::External<JobRef>::New(env, new JobRef(std::move(job)),
                                     [](Napi::Env, const JobRef* data) { delete data; });
}

// endDigests(begun), once: makes those that nobody has begun. A promise where the pool is still at
// one.
Napi::Value EndDigests(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Job& job = **info[0].As<Napi::External<JobRef>>().Data();
  while (const auto page = job.digests.Claim()) job.digests.Make(*page);
  if (!job.digests.AreMade()) return job.made.emplace(env).Promise();
  if (job.work != nullptr) job.work->CallOff();
  job.LetGo();
  return env.Undefined();
}

}  // namespace

void DefinePageDigests(Napi::Env env, Napi::Object exports) {
  exports.Set("beginDigests", Napi::Function::New<BeginDigests>(env, "beginDigests"));
  exports.Set("endDigests", Napi::Function::New<EndDigests>(env, "endDigests"));
}

}  // namespace uffd
