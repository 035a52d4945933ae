// Who waits for the next page fault: the fault loop, or for a moment a thread that is awake anyway.
//
// The loop stays the net. What is lent is only the wait: while the other thread reads again and
// again the loop leaves the descriptor out of its sleep, so that no fault wakes both, and looks
// once in kLookMs whether that thread still does. It may be in JavaScript, in a fault of its own or
// gone. Both may read at any time: the kernel gives each message to one of them.
//
// A loop that sleeps for longer than kLookMs does not know of deadlines that came since: who hands
// a fault over pokes it unless it stands aside.
//
// Between its reading and its hand-over a fault depends on that other thread alone, and has no
// deadline yet: two lock acquisitions, as long as that thread gets a processor.
#ifndef UFFD_CORE_READING_LOAN_H_
#define UFFD_CORE_READING_LOAN_H_

#include <atomic>
#include <cstdint>

namespace uffd {

class ReadingLoan {
 public:
  static constexpr int kLookMs = 1;

  // The thread that is awake.

  void NoteReading() noexcept {
    readings_++;
    taken_ = true;
  }
  // True: the loop must be poked, else it would read again only after its next look.
  bool GiveBack() noexcept { return taken_.exchange(false) && aside_; }

  // Whether the loop was standing aside, and will look at what is due before it does something
  // else.
  bool IsKnown() const noexcept { return aside_; }

  // The loop, before each of its sleeps: whether it stands aside.
  bool StandAside() noexcept {
    // Set first: a loan that is given back now is seen here, or aside_ there.
    aside_ = true;
    const uint64_t readings = readings_;
    if (!taken_ || readings == seen_) aside_ = false;
    seen_ = readings;
    return aside_;
  }

 private:
  std::atomic<bool> taken_{false};
  std::atomic<bool> aside_{false};
  std::atomic<uint64_t> readings_{0};
  uint64_t seen_ = 0;  // loop only
};

}  // namespace uffd

#endif  // UFFD_CORE_READING_LOAN_H_
