// Whether an event loop is to stay awake for the next fault.
#ifndef UFFD_LINGERING_H_
#define UFFD_LINGERING_H_

#include <cstdint>

namespace uffd {

// A thread whose fault was ended often has the next one at once. To stay awake for that saves the
// event loop a sleep, and the thread half of its wait; where nothing comes it is time of a
// processor. Knows when the last events were done with, and whether waiting was worth it lately.
class Lingering {
 public:
  // All times are in nanoseconds.
  static constexpr uint64_t kLongest = 30'000;

  void Woken(uint64_t now) noexcept;
  bool IsWorthIt() const noexcept { return eager_; }
  void Waited(bool in_time) noexcept;
  void Ended(uint64_t now) noexcept { last_end_ = now; }

 private:
  uint64_t last_end_ = 0;
  bool eager_ = false;
  int in_vain_ = 0;
  int soon_ = 0;         // so many events came soon, in a row
  int soon_needed_ = 1;  // to linger again
};

}  // namespace uffd

#endif  // UFFD_LINGERING_H_
