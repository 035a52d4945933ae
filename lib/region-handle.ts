// What names a region to another thread of the same process.

import { types } from 'node:util';
import { binding, isFailure, type NativeRegion, type NativeToken } from './binding.js';
import { invalidType, systemError, UffdError } from './errors.js';

/**
 * Names a region of our own: send it to a Worker (`postMessage`, `workerData`) and give it to
 * `Region.attach` there. It holds no memory by itself: the region must be open when it is attached.
 */
export interface RegionHandle {
  readonly type: 'userfaultfd.Region';
  /** Random, and known in this process only. */
  readonly key: string;
  /** Of a region with a shared buffer. */
  readonly buffer?: SharedArrayBuffer;
}

/** @internal */
export function makeHandle(mapping: NativeToken, buffer: SharedArrayBuffer | undefined): RegionHandle {
  const key = binding().keyOf(mapping);
  if (isFailure(key)) throw systemError(key);
  return { type: 'userfaultfd.Region', key, ...(buffer === undefined ? {} : { buffer }) };
}

/** @internal */
export function attachHandle(handle: unknown): { native: NativeRegion; view: Uint8Array | undefined } {
  if (typeof handle !== 'object' || handle === null) throw invalidType('handle', 'a RegionHandle', handle);
  const { type, key, buffer } = handle as Partial<Record<keyof RegionHandle, unknown>>;
  if (type !== 'userfaultfd.Region' || typeof key !== 'string') {
    throw invalidType('handle', 'a RegionHandle, as region.handle gives it', handle);
  }
  if (buffer !== undefined && !types.isSharedArrayBuffer(buffer)) {
    throw invalidType('handle.buffer', 'a SharedArrayBuffer', buffer);
  }
  const view = buffer === undefined ? undefined : new Uint8Array(buffer);
  const native = binding().attach(key, view);
  if (native === undefined) throw handleError();
  return { native, view };
}

function handleError(): UffdError {
  return new UffdError(
    'This handle names no open region of this process: the region was closed or collected, or the handle is of another process',
    {
      code: 'ERR_UFFD_HANDLE',
      hint: 'Keep the region open until the Worker has attached it; handles cannot leave their process.',
    },
  );
}
