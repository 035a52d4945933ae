// A process may let the kernel merge equal pages of all its memory, and merging takes marks away.

import { binding } from './binding.js';

/** @internal Says once in the life of the process that PR_SET_MEMORY_MERGE is on. prctl(2), Linux 6.4. */
export function warnOfMerging(): void {
  if (!binding().isMemoryMerged() || !binding().isFirst('UFFD_MEMORY_MERGE')) return;
  process.emitWarning(
    'The kernel may merge equal pages of this process (PR_SET_MEMORY_MERGE), which takes write protection ' +
      'away. Memory that is registered or tracked is taken out of that where it can be; pages that were ' +
      'merged all the same count as written.',
    {
      code: 'UFFD_MEMORY_MERGE',
      detail:
        'Faults of a Userfaultfd on merged pages are not told at all. Switch merging off: ' +
        'prctl(PR_SET_MEMORY_MERGE, 0), "MemoryKSM=no" in a systemd unit.',
    },
  );
}
