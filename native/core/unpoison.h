#ifndef UFFD_CORE_UNPOISON_H_
#define UFFD_CORE_UNPOISON_H_

#include "core/mapping.h"
#include "core/range.h"
#include "core/result.h"

namespace uffd {

// From now on there may be poisoned pages in this process.
void NotePoison() noexcept;

// Poisoned pages are holes again, also where they are registered. Only those of a shared memfd need
// it: there the kernel keeps the mark when the pages are given back. One that was write-protected
// after it was poisoned looks like any that is, and stays poisoned.
Status Unpoison(const Mapping& mapping, Range range) noexcept;

}  // namespace uffd

#endif  // UFFD_CORE_UNPOISON_H_
