// What copies of one instant have in common: whose memory it may be, and why there may be none.

import { types } from 'node:util';
import type { NativeFailure } from './binding.js';
import { closedError, errnoName, rangeHasOwner, systemError, UffdError } from './errors.js';
import type { Region } from './region.js';

/**
 * Comparing cannot tell a page that was written and written back from one that held still, so it
 * cannot prove that a copy of what other threads write is of one instant.
 */
export function othersCanWrite(regions: readonly Region[]): boolean {
  return regions.some((region) => types.isSharedArrayBuffer(region.buffer));
}

/** Of the native layer's call "snapshot"; `what` is who was asked. */
export function cutError(failure: NativeFailure, what: string): UffdError {
  const code = errnoName(failure.errno);
  if (failure.syscall === 'snapshot' && code === 'EAGAIN') {
    return new UffdError(
      'Other threads wrote the memory all the time, so no copy of one instant could be made',
      { code: 'ERR_UFFD_SNAPSHOT_TORN', hint: 'Take it when the writers pause.' },
    );
  }
  if (failure.syscall === 'snapshot' && code === 'ERANGE') {
    return new UffdError('A memory is smaller than it was then; nothing was written', {
      code: 'ERR_UFFD_SHRUNK',
      hint: 'Grow it to its old size, then restore.',
    });
  }
  if (code === 'ESHUTDOWN') return closedError(what);
  return code === 'EBUSY' ? rangeHasOwner(failure) : systemError(failure);
}
