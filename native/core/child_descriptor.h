// The userfaultfd of a forked child that nobody keeps, which frees the child as it closes.
#ifndef UFFD_CORE_CHILD_DESCRIPTOR_H_
#define UFFD_CORE_CHILD_DESCRIPTOR_H_

#include <utility>

#include "core/file_descriptor.h"
#include "core/registration_table.h"
#include "core/userfaultfd.h"

namespace uffd {

// Closing alone frees nobody while a copy of the descriptor is open elsewhere, and each child that
// is forked meanwhile has one until it calls exec (test 35, A2). So all that the child may have
// registered is unregistered and woken first.
inline void UnregisterOfChild(Userfaultfd* child, Range range) noexcept {
  static_cast<void>(child->Unregister(range).Ok());
  static_cast<void>(child->Wake(range).Ok());
}

// As it is read from the parent's userfaultfd: the child has what `table` has.
class ChildDescriptor {
 public:
  ChildDescriptor(FileDescriptor fd, const RegistrationTable& table) noexcept
      : uffd_(Userfaultfd::Adopt(std::move(fd))), table_(table) {}
  ChildDescriptor(const ChildDescriptor&) = delete;
  ChildDescriptor& operator=(const ChildDescriptor&) = delete;
  ~ChildDescriptor() {
    if (!uffd_.IsOpen()) return;
    table_.ForEach([this](const Registration& each) { UnregisterOfChild(&uffd_, each.range); });
  }

  bool IsOpen() const noexcept { return uffd_.IsOpen(); }
  // Somebody keeps it.
  Userfaultfd Take() noexcept { return std::move(uffd_); }

 private:
  Userfaultfd uffd_;
  const RegistrationTable& table_;
};

}  // namespace uffd

#endif  // UFFD_CORE_CHILD_DESCRIPTOR_H_
