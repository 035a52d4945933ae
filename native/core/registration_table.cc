#include "core/registration_table.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <new>
#include <utility>

namespace uffd {
namespace {

bool BeginsBefore(const Registration& entry, uint64_t address) noexcept {
  return entry.range.start < address;
}

Registration Part(const Registration& whole, Range range) noexcept {
  Registration part = whole;
  part.range = range;
  part.base = whole.OffsetOf(range.start);
  return part;
}

}  // namespace

Result<uint32_t> RegistrationTable::Add(Registration registration) noexcept {
  const std::lock_guard<std::mutex> writing(writers_);
  const auto overlaps = [&registration](const Registration& entry) {
    return entry.range.Overlaps(registration.range);
  };
  if (std::any_of(entries_.begin(), entries_.end(), overlaps)) {
    return Failure{EBUSY, "ioctl(UFFDIO_REGISTER)"};
  }
  const Status grown = Grow(entries_.size() + 1);
  if (!grown) return grown.Error();
  const uint32_t id = next_id_++;
  registration.id = id;
  const std::lock_guard<std::mutex> lock(lookup_);
  Insert(std::move(registration));
  return id;
}

// What loses its place is freed when the lock is let go of.
Status RegistrationTable::Grow(size_t size) noexcept {
  if (size <= entries_.capacity()) return Done{};
  Entries larger;
  try {
    // A page holds that many for the price of one.
    larger.reserve(std::max<size_t>(2 * size, PageSize() / sizeof(Registration)));
  } catch (const std::bad_alloc&) {
    return Failure{ENOMEM, "mmap"};
  }
  const std::lock_guard<std::mutex> lock(lookup_);
  std::move(entries_.begin(), entries_.end(), std::back_inserter(larger));
  entries_.swap(larger);
  return Done{};
}

void RegistrationTable::Insert(Registration registration) noexcept {
  const auto after =
      std::lower_bound(entries_.begin(), entries_.end(), registration.range.start, BeginsBefore);
  entries_.insert(after, std::move(registration));
}

void RegistrationTable::SetIoctls(uint32_t id, uint64_t ioctls) noexcept {
  const std::lock_guard<std::mutex> lock(lookup_);
  for (Registration& entry : entries_) {
    if (entry.id == id) entry.ioctls = ioctls;
  }
}

void RegistrationTable::SetClosing(uint32_t id, bool closing) noexcept {
  const std::lock_guard<std::mutex> lock(lookup_);
  for (Registration& entry : entries_) {
    if (entry.id == id) entry.closing = closing;
  }
}

template <typename Matches>
std::optional<Registration> RegistrationTable::Take(Matches matches) noexcept {
  const std::lock_guard<std::mutex> writing(writers_);
  const std::lock_guard<std::mutex> lock(lookup_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), matches);
  if (found == entries_.end()) return std::nullopt;
  std::optional<Registration> taken = std::move(*found);
  entries_.erase(found);
  return taken;
}

void RegistrationTable::Remove(uint32_t id) noexcept {
  while (Take([id](const Registration& entry) { return entry.id == id; })) {
  }
}

void RegistrationTable::RemovePart(uint32_t id, Range range) noexcept {
  static_cast<void>(Take([id, range](const Registration& entry) {
    return entry.id == id && range.Contains(entry.range);
  }));
}

void RegistrationTable::Clear() noexcept {
  while (Take([](const Registration&) { return true; })) {
  }
}

Status RegistrationTable::Cut(Range range) noexcept { return ReplaceAll(range, std::nullopt); }

Status RegistrationTable::Move(Range range, uint64_t to) noexcept { return ReplaceAll(range, to); }

Status RegistrationTable::ReplaceAll(Range range, std::optional<uint64_t> to) noexcept {
  // A mapping that is doubled (mremap() of no bytes) moves nothing.
  if (range.Empty()) return Done{};
  for (;;) {
    const Result<bool> replaced = ReplaceOne(range, to);
    if (!replaced) return replaced.Error();
    if (!replaced.Value()) return Done{};
  }
}

// Of one entry: what lies outside the range stays, what lies in it goes, or goes elsewhere.
Result<bool> RegistrationTable::ReplaceOne(Range range, std::optional<uint64_t> to) noexcept {
  Registration whole;  // what is left of it ends without the locks
  const std::lock_guard<std::mutex> writing(writers_);
  const auto overlaps = [range](const Registration& entry) { return entry.range.Overlaps(range); };
  auto found = std::find_if(entries_.begin(), entries_.end(), overlaps);
  if (found == entries_.end()) return false;
  const Range before = found->range.Intersect({0, range.start});
  const Range within = found->range.Intersect(range);
  const Range after = found->range.Intersect({range.end, UINT64_MAX});
  const auto index = found - entries_.begin();
  const Status grown = Grow(entries_.size() + 2);
  if (!grown && !(before.Empty() && after.Empty())) return grown.Error();
  const std::lock_guard<std::mutex> lock(lookup_);
  found = entries_.begin() + index;
  whole = std::move(*found);
  entries_.erase(found);
  if (!before.Empty()) Insert(Part(whole, before));
  if (!after.Empty()) Insert(Part(whole, after));
  if (to) {
    Registration moved = Part(whole, within);
    moved.range = {within.start - range.start + *to, within.end - range.start + *to};
    Insert(std::move(moved));
  }
  return true;
}

std::optional<Registration> RegistrationTable::From(uint64_t address) const noexcept {
  const std::lock_guard<std::mutex> lock(lookup_);
  const auto entry = std::lower_bound(entries_.begin(), entries_.end(), address, BeginsBefore);
  if (entry == entries_.end()) return std::nullopt;
  return *entry;
}

std::optional<Registration> RegistrationTable::Find(uint64_t address) const noexcept {
  const std::lock_guard<std::mutex> lock(lookup_);
  const auto after = std::upper_bound(
      entries_.begin(), entries_.end(), address,
      [](uint64_t at, const Registration& entry) { return at < entry.range.start; });
  if (after == entries_.begin()) return std::nullopt;
  const Registration& entry = *(after - 1);
  if (address >= entry.range.end) return std::nullopt;
  return entry;
}

std::optional<Registration> RegistrationTable::PartOf(uint32_t id) const noexcept {
  const std::lock_guard<std::mutex> lock(lookup_);
  const auto part = std::find_if(entries_.begin(), entries_.end(),
                                 [id](const Registration& entry) { return entry.id == id; });
  if (part == entries_.end()) return std::nullopt;
  return *part;
}

bool RegistrationTable::Serves(uint32_t id, Range range) const noexcept {
  const std::lock_guard<std::mutex> lock(lookup_);
  return std::any_of(entries_.begin(), entries_.end(), [&](const Registration& entry) {
    return entry.id == id && entry.range.Contains(range);
  });
}

bool RegistrationTable::Overlaps(Range range, uint64_t modes) const noexcept {
  const std::lock_guard<std::mutex> lock(lookup_);
  return std::any_of(entries_.begin(), entries_.end(), [&](const Registration& entry) {
    return entry.range.Overlaps(range) && (entry.policy->mode & modes) != 0;
  });
}

bool RegistrationTable::MayFill(Range range) const noexcept {
  constexpr uint64_t kModes = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
  const std::lock_guard<std::mutex> lock(lookup_);
  return std::any_of(entries_.begin(), entries_.end(), [&](const Registration& entry) {
    const PageLoader* const loader = entry.policy->loader.get();
    return entry.range.Overlaps(range) && (entry.policy->mode & kModes) != 0 &&
           (loader == nullptr || !loader->IsLoaded());
  });
}

bool RegistrationTable::IsSource(Range range) const noexcept {
  const std::lock_guard<std::mutex> lock(lookup_);
  return std::any_of(entries_.begin(), entries_.end(), [&](const Registration& entry) {
    return entry.policy->source && entry.policy->source->Memory().Overlaps(range);
  });
}

bool RegistrationTable::HasSource(Range range) const noexcept {
  const std::lock_guard<std::mutex> lock(lookup_);
  return std::any_of(entries_.begin(), entries_.end(), [&](const Registration& entry) {
    return entry.policy->source && !entry.policy->loader && entry.range.Overlaps(range);
  });
}

void RegistrationTable::TellLost(Range range) const noexcept {
  ForEach([range](const Registration& entry) {
    if (entry.range.Overlaps(range) && entry.policy->observer) entry.policy->observer->Lost(range);
  });
}

}  // namespace uffd
