// A value or the system call that failed. An error is an errno and the call that gave it; sentences
// for people are made in TypeScript.
#ifndef UFFD_CORE_RESULT_H_
#define UFFD_CORE_RESULT_H_

#include <utility>
#include <variant>

namespace uffd {

struct Failure {
  int error = 0;          // positive errno
  const char* call = "";  // static string, e.g. "ioctl(UFFDIO_REGISTER)"
};

struct Done {};

template <typename T>
class [[nodiscard]] Result {
 public:
  // Implicit, so that a function returns its value or its failure as they are.
  // NOLINTBEGIN(google-explicit-constructor)
  Result(T value) noexcept : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Failure failure) noexcept : state_(std::in_place_index<1>, failure) {}
  // NOLINTEND(google-explicit-constructor)

  bool Ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return Ok(); }
  T& Value() noexcept { return *std::get_if<0>(&state_); }
  const T& Value() const noexcept { return *std::get_if<0>(&state_); }
  const Failure& Error() const noexcept { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Failure> state_;
};

using Status = Result<Done>;

// The object was closed while the call was on its way. No kernel call below returns this errno.
inline constexpr int kClosedErrno = 108;  // ESHUTDOWN
// The process is ending: nothing is opened any more. No kernel call below returns this one either.
inline constexpr int kEndingErrno = 125;  // ECANCELED

}  // namespace uffd

#endif  // UFFD_CORE_RESULT_H_
