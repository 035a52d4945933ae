// A copy of live memory at one instant, and the way back to it.

import { inspect, types } from 'node:util';
import { binding, isFailure, type NativeFailure, type NativeSnapshot } from './binding.js';
import { DirtyPages, pageSetOf } from './dirty-pages.js';
import { chooseEngine, engineNumber, warnOfFallback } from './dirty-engine.js';
import { closedError, errnoName, rangeHasOwner, systemError, UffdError } from './errors.js';
import { toRegions } from './trackable.js';
import { warnOfMerging } from './memory-merging.js';
import { regionInternals, type Region, type RegionUser, type Trackable } from './region.js';
import {
  checkByteRange,
  checkConstruct,
  checkInteger,
  checkOneOf,
  checkOptions,
  CONSTRUCT,
} from './validate.js';

export interface SnapshotOptions {
  /** `copy`: all bytes are copied before `take` returns. `'auto'` (default) takes it. */
  mode?: 'auto' | 'copy';
}

export interface RestoreStats {
  /** Pages put back: those written since the snapshot, or since the last restore, that differed. */
  pages: number;
  /** Bytes of those pages. */
  bytes: number;
  /** Pages another thread wrote during the restore and that differ now; 0 when nobody did. */
  different: number;
}

/**
 * A consistent copy of one or several memories. `restore()` and `diff()` cost what was written since,
 * not the size of the memory: the snapshot tracks it until it is closed.
 */
export class Snapshot implements Disposable {
  readonly mode = 'copy';
  /** Every page is captured. At once in mode `copy`. */
  readonly ready: Promise<void> = Promise.resolve();
  /** Size of each memory at the instant of the snapshot, in bytes. */
  readonly byteLengths: readonly number[];
  readonly #native: NativeSnapshot;
  readonly #regions: readonly Region[];
  readonly #user: RegionUser = { regionClosing: () => this.close() };
  readonly #leaveRegions: readonly (() => void)[];
  #closed = false;

  private constructor(
    token: typeof CONSTRUCT,
    native: NativeSnapshot,
    regions: Region[],
    byteLengths: number[],
  ) {
    checkConstruct('Snapshot', token);
    this.#native = native;
    this.#regions = regions;
    this.byteLengths = byteLengths;
    this.#leaveRegions = regions.map((region) => regionInternals(region).attach(this.#user));
  }

  /**
   * Takes a snapshot; this is its instant. Memory that Workers write meanwhile is copied again until
   * no page changed during a pass.
   * @throws {UffdError} `ERR_UFFD_SNAPSHOT_TORN` when the writers never paused: there is no consistent
   * copy then, and none is made up.
   */
  static take(memory: Trackable | readonly Trackable[], options: SnapshotOptions = {}): Snapshot {
    const { mode = 'auto' } = checkOptions('options', options, ['mode']);
    checkOneOf('options.mode', mode, ['auto', 'copy']);
    const regions = toRegions(memory);
    const engine = chooseEngine('engine', othersCanWrite(regions) ? 'wp-async' : 'auto');
    const views = regions.map((region) => region.bytes);
    const native = new (binding().Snapshot)();
    const failure = native.take(
      views,
      regions.map((region) => regionInternals(region).keepAlive),
      engineNumber(engine),
    );
    if (failure !== undefined) throw snapshotError(failure);
    if (engine === 'compare') warnOfFallback();
    else warnOfMerging();
    return new Snapshot(
      CONSTRUCT,
      native,
      regions,
      views.map((view) => view.byteLength),
    );
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Bytes of all memories at the instant of the snapshot. */
  get byteLength(): number {
    return this.byteLengths.reduce((sum, bytes) => sum + bytes, 0);
  }

  /**
   * Puts the memories back. Memory that grew since keeps its size; what came with growth reads as zero.
   * @throws {UffdError} `ERR_UFFD_SHRUNK` when a memory is smaller now; nothing was written then.
   */
  restore(): RestoreStats {
    const stats = this.#native.restore(this.#views());
    if (isFailure(stats)) throw snapshotError(stats);
    return stats;
  }

  /** The pages whose bytes differ from the snapshot. */
  diff(): DirtyPages {
    const views = this.#views();
    const sets = this.#native.diff(views);
    if (isFailure(sets)) throw snapshotError(sets);
    return new DirtyPages(
      CONSTRUCT,
      sets.map((ranges, i) => pageSetOf(this.#regions[i]!, views[i]!, ranges)),
    );
  }

  /**
   * A copy of the bytes as they were. `offset` and `length` are bytes; `memory` is which of several.
   */
  read(offset = 0, length?: number, memory = 0): Uint8Array {
    if (this.#closed) throw closedError('snapshot');
    checkInteger('memory', memory, 0, this.#regions.length - 1);
    const held = this.byteLengths[memory]!;
    // A Wasm memory without pages: all of its bytes are none.
    if (held === 0 && offset === 0 && length === undefined) return new Uint8Array(0);
    const range = checkByteRange(length === undefined ? { offset } : { offset, length }, held);
    const bytes = this.#native.read(memory, range.offset, range.length);
    if (isFailure(bytes)) throw snapshotError(bytes);
    return bytes;
  }

  /** Frees the copy and stops tracking. Closing twice is fine. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#native.close();
    for (const leave of this.#leaveRegions) leave();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    if (!(#closed in this)) return 'Snapshot {}';
    return this.#closed ? 'Snapshot { closed }' : `Snapshot { ${this.mode}, ${this.byteLength} bytes }`;
  }

  #views(): Uint8Array[] {
    if (this.#closed) throw closedError('snapshot');
    return this.#regions.map((region) => region.bytes);
  }
}

/**
 * Comparing cannot tell a page that was written and written back from one that held still, so it
 * cannot prove that a copy of what other threads write is of one instant.
 */
function othersCanWrite(regions: readonly Region[]): boolean {
  return regions.some((region) => types.isSharedArrayBuffer(region.buffer));
}

function snapshotError(failure: NativeFailure): UffdError {
  const code = errnoName(failure.errno);
  if (failure.syscall === 'snapshot' && code === 'EAGAIN') {
    return new UffdError(
      'Other threads wrote the memory all the time, so no copy of one instant could be made',
      {
        code: 'ERR_UFFD_SNAPSHOT_TORN',
        hint: 'Take it when the writers pause.',
      },
    );
  }
  if (failure.syscall === 'snapshot' && code === 'ERANGE') {
    return new UffdError('The memory is smaller than when the snapshot was taken; nothing was written', {
      code: 'ERR_UFFD_SHRUNK',
      hint: 'Grow it to its old size, then restore.',
    });
  }
  if (code === 'ESHUTDOWN') return closedError('snapshot');
  return code === 'EBUSY' ? rangeHasOwner(failure) : systemError(failure);
}
