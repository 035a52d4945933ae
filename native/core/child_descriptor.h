// The userfaultfd of a forked child, which frees the child as it closes.
#ifndef UFFD_CORE_CHILD_DESCRIPTOR_H_
#define UFFD_CORE_CHILD_DESCRIPTOR_H_

#include <utility>

#include "core/few_ranges.h"
#include "core/file_descriptor.h"
#include "core/registration_table.h"
#include "core/userfaultfd.h"

namespace uffd {

// Closing alone frees nobody while a copy of the descriptor is open elsewhere, and each child that
// is forked meanwhile has one until it calls exec (test 35, A2). So all that the child may have
// registered is unregistered and woken first.
class ChildDescriptor {
 public:
  ChildDescriptor() = default;
  ChildDescriptor(FileDescriptor fd, const RegistrationTable& table) noexcept
      : uffd_(Userfaultfd::Adopt(std::move(fd))) {
    table.ForEach([this](const Registration& each) { registered_.Add(each.range); });
  }
  ChildDescriptor(ChildDescriptor&& other) noexcept
      : uffd_(std::move(other.uffd_)), registered_(other.registered_) {}
  ChildDescriptor& operator=(ChildDescriptor&& other) noexcept {
    std::swap(uffd_, other.uffd_);
    std::swap(registered_, other.registered_);
    return *this;
  }
  ~ChildDescriptor() {
    if (uffd_.IsOpen()) Unregister(registered_);
  }

  Userfaultfd* operator->() noexcept { return &uffd_; }
  Userfaultfd& Get() noexcept { return uffd_; }
  int Fd() const noexcept { return uffd_.Fd(); }
  bool IsOpen() const noexcept { return uffd_.IsOpen(); }
  // Also from another thread than that which reads it.
  void Unregister(const FewRanges& ranges) noexcept {
    ranges.ForEach([this](Range range) {
      static_cast<void>(uffd_.Unregister(range).Ok());
      static_cast<void>(uffd_.Wake(range).Ok());
    });
  }
  const FewRanges& Registered() const noexcept { return registered_; }
  // The child moved memory.
  void Moved(Range to) noexcept { registered_.Add(to); }

 private:
  Userfaultfd uffd_;
  FewRanges registered_;
};

}  // namespace uffd

#endif  // UFFD_CORE_CHILD_DESCRIPTOR_H_
