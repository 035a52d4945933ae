#include "core/snapshot_pages.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/sha256.h"

namespace uffd {
namespace {

// Read with one call: their digests lie on the stack, perhaps a signal handler's.
constexpr uint64_t kPagesAtOnce = 32;

Status ReadAll(int fd, uint8_t* to, uint64_t bytes, uint64_t position) noexcept {
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t count = pread(fd, to + done, bytes - done, static_cast<off_t>(position + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Failure{errno, "pread"};
    if (count == 0) return Failure{ENODATA, "pread"};
    done += static_cast<uint64_t>(count);
  }
  return Done{};
}

}  // namespace

size_t SnapshotPages::RunAt(const std::vector<Run>& runs, uint64_t page) const noexcept {
  const auto found = std::partition_point(
      runs.begin(), runs.end(), [page](const Run& run) { return run.first + run.count <= page; });
  return static_cast<size_t>(found - runs.begin());
}

bool SnapshotPages::HasAny(size_t memory, uint64_t first, uint64_t count) const noexcept {
  const std::vector<Run>& runs = memories_[memory];
  const size_t run = RunAt(runs, first);
  return run < runs.size() && runs[run].first < first + count;
}

Status SnapshotPages::Read(size_t memory, uint64_t first, uint64_t count,
                           uint8_t* to) const noexcept {
  const std::vector<Run>& runs = memories_[memory];
  const uint64_t end = first + count;
  uint64_t page = first;
  const auto zeros_until = [&](uint64_t until) {
    std::memset(to + (page - first) * page_size_, 0, (until - page) * page_size_);
    page = until;
  };
  for (size_t i = RunAt(runs, first); i < runs.size() && runs[i].first < end; i++) {
    const Run& run = runs[i];
    if (run.first > page) zeros_until(run.first);
    while (page < std::min(run.first + run.count, end)) {
      const uint64_t some = std::min({run.first + run.count - page, end - page, kPagesAtOnce});
      const Status read = ReadChecked(files_[run.file], run.index + (page - run.first), some,
                                      to + (page - first) * page_size_);
      if (!read) return read;
      page += some;
    }
  }
  zeros_until(end);
  return Done{};
}

Status SnapshotPages::ReadChecked(const File& file, uint64_t index, uint64_t count,
                                  uint8_t* to) const noexcept {
  std::array<Sha256Digest, kPagesAtOnce> digests;
  const Status read =
      ReadAll(file.fd.Get(), to, count * page_size_, file.pages_at + index * page_size_);
  if (!read) return read;
  const Status named = ReadAll(file.fd.Get(), digests.front().data(), count * sizeof(Sha256Digest),
                               file.digests_at + index * sizeof(Sha256Digest));
  if (!named) return named;
  for (uint64_t i = 0; i < count; i++) {
    if (Sha256Of(to + i * page_size_, page_size_) != digests[i]) return Failure{EBADMSG, "pread"};
  }
  return Done{};
}

}  // namespace uffd
