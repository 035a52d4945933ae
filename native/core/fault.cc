#include "core/fault.h"

namespace uffd {
namespace {

Event DecodeRange(EventType type, const uffd_msg& message) noexcept {
  Event event;
  event.type = type;
  event.address = message.arg.remove.start;
  event.length = message.arg.remove.end - message.arg.remove.start;
  return event;
}

Event DecodePageFault(const uffd_msg& message) noexcept {
  const uint64_t flags = message.arg.pagefault.flags;
  Event event;
  event.type = EventType::kPageFault;
  event.write = (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0;
  if ((flags & UFFD_PAGEFAULT_FLAG_WP) != 0) {
    event.reason = FaultReason::kWriteProtect;
    event.write = true;
  } else if ((flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0) {
    event.reason = FaultReason::kMinor;
  }
  event.thread_id = message.arg.pagefault.feat.ptid;
  event.address = message.arg.pagefault.address;
  return event;
}

}  // namespace

Event DecodeEvent(const uffd_msg& message) noexcept {
  Event event;
  switch (message.event) {
    case UFFD_EVENT_PAGEFAULT:
      return DecodePageFault(message);
    case UFFD_EVENT_FORK:
      event.type = EventType::kFork;
      event.fork_fd = static_cast<int>(message.arg.fork.ufd);
      return event;
    case UFFD_EVENT_REMAP:
      event.type = EventType::kRemap;
      event.address = message.arg.remap.from;
      event.to = message.arg.remap.to;
      event.length = message.arg.remap.len;
      return event;
    case UFFD_EVENT_REMOVE:
      return DecodeRange(EventType::kRemove, message);
    case UFFD_EVENT_UNMAP:
      return DecodeRange(EventType::kUnmap, message);
    default:
      return event;
  }
}

}  // namespace uffd
