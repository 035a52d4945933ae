// Which way a snapshot of these memories is taken here, and taking it.

import { types } from 'node:util';
import { binding, isFailure, type NativeSnapshot } from './binding.js';
import { chooseEngine, engineNumber, warnOfFallback, type DirtyEngine } from './dirty-engine.js';
import { invalidValue, type UffdError } from './errors.js';
import { warnOfMerging } from './memory-merging.js';
import { keepSigbusHandler } from './sigbus-listeners.js';
import { isProtectable, regionInternals, type Region } from './region.js';
import { captureError, snapshotError } from './snapshot-errors.js';
import type { CheckedSnapshotOptions, SnapshotMode } from './snapshot-options.js';
import { sourcesOf } from './trackable.js';

/** @internal `native` is of the instant when this was returned. */
export interface TakenSnapshot {
  native: NativeSnapshot;
  mode: SnapshotMode;
}

/** @internal `onSettled` is called later, in mode copy-on-write only. */
export function takeSnapshot(
  regions: readonly Region[],
  options: CheckedSnapshotOptions,
  onSettled: () => void,
): TakenSnapshot {
  const native = new (binding().Snapshot)();
  const unfit = regions.find((region) => !isProtectable(region));
  if (options.mode === 'copy-on-write') {
    if (unfit !== undefined) {
      throw invalidValue(
        'memory',
        'must be a WebAssembly.Memory or allocated by this package, not of a file and not aliased, for mode copy-on-write',
        unfit,
      );
    }
    const failure = protect(native, regions, options, onSettled);
    if (failure !== undefined) throw failure;
    return { native, mode: 'copy-on-write' };
  }
  if (options.mode === 'auto' && unfit === undefined) {
    if (protect(native, regions, options, onSettled) === undefined) return { native, mode: 'copy-on-write' };
  }
  copy(native, regions, options);
  return { native, mode: 'copy' };
}

function protect(
  native: NativeSnapshot,
  regions: readonly Region[],
  { resolver, maxBytes, bytesPerSecond }: CheckedSnapshotOptions,
  onSettled: () => void,
): UffdError | undefined {
  if (resolver === 'in-thread') keepSigbusHandler();
  const failure = native.takeCopyOnWrite(
    sourcesOf(regions),
    regions.map((region) => regionInternals(region).keepAlive),
    engineNumber(chooseEngine('engine')),
    { inThread: resolver === 'in-thread', maxBytes, bytesPerSecond },
    onSettled,
  );
  if (failure !== undefined) return captureError(failure);
  warnOfMerging();
  return undefined;
}

function copy(
  native: NativeSnapshot,
  regions: readonly Region[],
  { maxBytes }: CheckedSnapshotOptions,
): void {
  const engine: DirtyEngine = chooseEngine('engine', othersCanWrite(regions) ? 'wp-async' : 'auto');
  const failure = native.take(
    sourcesOf(regions),
    regions.map((region) => regionInternals(region).keepAlive),
    engineNumber(engine),
    maxBytes,
  );
  if (isFailure(failure)) throw snapshotError(failure);
  if (engine === 'compare') warnOfFallback();
  else warnOfMerging();
}

/**
 * Comparing cannot tell a page that was written and written back from one that held still, so it
 * cannot prove that a copy of what other threads write is of one instant.
 */
function othersCanWrite(regions: readonly Region[]): boolean {
  return regions.some((region) => types.isSharedArrayBuffer(region.buffer));
}
