// What an event loop that reads the events may do itself while it stays awake for the next fault.
#ifndef UFFD_CORE_AWAKE_READER_H_
#define UFFD_CORE_AWAKE_READER_H_

namespace uffd {

class AwakeReader {
 public:
  virtual ~AwakeReader() = default;
  // Whether handlers ended faults since this was asked, and have none left to end.
  virtual bool TakeAllAnswered() noexcept = 0;
  // Reads the faults that wait, and hands them over. Waits for no fault.
  virtual void ReadFaults() noexcept = 0;
  // It reads no more.
  virtual void LeaveReading() noexcept = 0;
};

}  // namespace uffd

#endif  // UFFD_CORE_AWAKE_READER_H_
