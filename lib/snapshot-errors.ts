// Why a snapshot failed, told to people.

import { constants } from 'node:os';
import type { NativeCaptureFailure, NativeFailure } from './binding.js';
import { closedError, errnoName, rangeHasOwner, systemError, UffdError } from './errors.js';
import { openError } from './opening.js';

/** What the native layer reports in its own name, by negative errno (Cut in native/core/cut.h). */
const OF_SNAPSHOTS: Record<number, () => UffdError> = {
  [-constants.errno.EAGAIN]: tornByWriters,
  [-constants.errno.ERANGE]: shrunk,
  [-constants.errno.ESTALE]: tornByRemoval,
  [-constants.errno.EDQUOT]: limitReached,
  [-constants.errno.ETIMEDOUT]: notServed,
};

/** @internal */
export function snapshotError(failure: NativeFailure): UffdError {
  const ours = failure.syscall === 'snapshot' ? OF_SNAPSHOTS[failure.errno] : undefined;
  if (ours !== undefined) return ours();
  const code = errnoName(failure.errno);
  if (code === 'ESHUTDOWN') return closedError('snapshot');
  return code === 'EBUSY' ? rangeHasOwner(failure) : systemError(failure);
}

/** @internal Of taking a copy-on-write snapshot. */
export function captureError(failure: NativeCaptureFailure): UffdError {
  const opening = failure.missingFeatures !== 0n || failure.attempts.some(({ errno }) => errno !== 0);
  return opening && !failure.syscall.startsWith('ioctl(UFFDIO_REGISTER')
    ? openError(failure)
    : snapshotError(failure);
}

function tornByWriters(): UffdError {
  return new UffdError(
    'Other threads wrote the memory all the time, so no copy of one instant could be made',
    {
      code: 'ERR_UFFD_SNAPSHOT_TORN',
      hint: 'Take it when the writers pause.',
    },
  );
}

function tornByRemoval(): UffdError {
  return new UffdError(
    'Pages of the memory were given back to the kernel, unmapped or moved before they were captured',
    {
      code: 'ERR_UFFD_SNAPSHOT_TORN',
      hint: 'Wait for snapshot.ready before discarding pages, or take the snapshot in mode "copy".',
    },
  );
}

function notServed(): UffdError {
  return new UffdError('Writers waited too long for a page to be captured, so they were let go', {
    code: 'ERR_UFFD_SNAPSHOT_TORN',
    hint: 'The machine did not let the capturing thread run. Take it again.',
  });
}

function limitReached(): UffdError {
  return new UffdError('The snapshot needs more memory than options.maxBytes', {
    code: 'ERR_UFFD_SNAPSHOT_LIMIT',
    hint: 'Raise options.maxBytes. The program and its memory are as if there were no snapshot.',
  });
}

function shrunk(): UffdError {
  return new UffdError('The memory is smaller than when the snapshot was taken; nothing was written', {
    code: 'ERR_UFFD_SHRUNK',
    hint: 'Grow it to its old size, then restore.',
  });
}
