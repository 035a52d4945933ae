// A copy of live memory at one instant, and the way back to it.

import type { Readable } from 'node:stream';
import { inspect } from 'node:util';
import { isFailure, type NativeSnapshot } from './binding.js';
import { DirtyPages } from './dirty-pages.js';
import { abortError, closedError } from './errors.js';
import { ListedPages } from './page-set.js';
import { toRegions } from './trackable.js';
import { regionInternals, type Region, type RegionUser, type Trackable } from './region.js';
import type { SaveStats } from './snapshot-encoder.js';
import {
  saveSnapshot,
  sourceOf,
  streamSnapshot,
  type Kinship,
  type SaveOptions,
  type StreamOptions,
} from './snapshot-save.js';
import { publishSnapshot } from './snapshot-diagnostics.js';
import { snapshotError } from './snapshot-errors.js';
import { enterLineage, Lineage, type Ancestor } from './snapshot-lineage.js';
import { checkSnapshotOptions, type SnapshotMode, type SnapshotOptions } from './snapshot-options.js';
import { takeSnapshot } from './snapshot-taking.js';
import { checkByteRange, checkConstruct, checkInteger, CONSTRUCT } from './validate.js';

export type { SnapshotMode, SnapshotOptions, SnapshotResolver } from './snapshot-options.js';

export interface RestoreStats {
  /** Pages put back: those written since the snapshot, or since the last restore, that differed. */
  pages: number;
  /** Bytes of those pages. */
  bytes: number;
  /** Pages another thread wrote during the restore and that differ now; 0 when nobody did. */
  different: number;
}

export interface CaptureProgress {
  /** Pages captured by the background so far. */
  swept: number;
  /** Pages captured because they were about to be written. */
  faulted: number;
  /** Bytes kept; pages of zeros take none. */
  bytes: number;
  /** Writes that waited: for their page to be captured, or for the instant of the snapshot. */
  waits: number;
  totalWaitMs: number;
  longestWaitMs: number;
}

/**
 * A consistent copy of one or several memories. `restore()` and `diff()` cost what was written since,
 * not the size of the memory: the snapshot tracks it until it is closed.
 */
export class Snapshot implements Disposable {
  readonly mode: SnapshotMode;
  /** Size of each memory at the instant of the snapshot, in bytes. */
  readonly byteLengths: readonly number[];
  readonly #ready: Promise<void>;
  readonly #native: NativeSnapshot;
  readonly #regions: readonly Region[];
  readonly #user: RegionUser = { regionClosing: () => this.close() };
  readonly #leaveRegions: readonly (() => void)[];
  readonly #kinship: Kinship;
  /** Weakly held by those that come after it. */
  readonly #ancestor: Ancestor;
  readonly #leaveLineage: () => void;
  #settle: { resolve: () => void; reject: (reason: Error) => void } | undefined;
  #unlisten: (() => void) | undefined;
  #closed = false;

  private constructor(token: typeof CONSTRUCT, regions: Region[], options: SnapshotOptions) {
    checkConstruct('Snapshot', token);
    const checked = checkSnapshotOptions(options);
    const { signal } = checked;
    if (signal?.aborted === true) throw abortError(signal);
    const { native, mode } = takeSnapshot(regions, checked, () => this.#onSettled());
    this.mode = mode;
    this.#native = native;
    this.#regions = regions;
    this.byteLengths = regions.map((region) => region.byteLength);
    this.#leaveRegions = regions.map((region) => regionInternals(region).attach(this.#user));
    this.#kinship = { lineage: new Lineage(regions, this.byteLengths), savedAs: new Set() };
    this.#ancestor = {
      savedAs: this.#kinship.savedAs,
      byteLengths: this.byteLengths,
      writtenSince: () => this.#writtenSince(),
    };
    this.#leaveLineage = enterLineage(regions, this.#ancestor);
    this.#ready = mode === 'copy' ? Promise.resolve() : this.#untilSettled(signal);
    publishSnapshot('taken', this);
  }

  #untilSettled(signal: AbortSignal | undefined): Promise<void> {
    const settled = new Promise<void>((resolve, reject) => (this.#settle = { resolve, reject }));
    settled.catch(() => undefined);
    if (signal !== undefined) {
      const onAbort = (): void => this.#end(abortError(signal));
      signal.addEventListener('abort', onAbort, { once: true });
      this.#unlisten = () => signal.removeEventListener('abort', onAbort);
    }
    return settled;
  }

  /**
   * Takes a snapshot; this is its instant. In mode `copy`, memory that Workers write meanwhile is copied
   * again until no page changed during a pass.
   * @throws {UffdError} `ERR_UFFD_SNAPSHOT_TORN` when the writers never paused (mode `copy`): there is
   * no consistent copy then, and none is made up. `ERR_UFFD_BUSY` when something else has the memory.
   */
  static take(memory: Trackable | readonly Trackable[], options: SnapshotOptions = {}): Snapshot {
    return new Snapshot(CONSTRUCT, toRegions(memory), options);
  }

  /**
   * Settles when every page is captured, at once in mode `copy`. Rejects when the snapshot failed, was
   * aborted or was closed before; a rejection that nobody looks at is no unhandled one, for every use of
   * the snapshot says the same. The process lives until then for whoever asked for it.
   */
  get ready(): Promise<void> {
    if (this.#settle !== undefined) this.#native.keepWaiting();
    return this.#ready;
  }

  /** What capturing has cost so far, and what is captured; all zero in mode `copy`. */
  get progress(): CaptureProgress {
    const state = this.#native.state();
    if (isFailure(state)) throw closedError('snapshot');
    const { swept, faulted, bytes, waits, waitedNs, longestWaitNs } = state;
    return {
      swept,
      faulted,
      bytes,
      waits,
      totalWaitMs: waitedNs / 1e6,
      longestWaitMs: longestWaitNs / 1e6,
    };
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
      sets.map((ranges, i) => ListedPages.of(this.#regions[i]!, views[i]!, ranges)),
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
    return this.#read(range.offset, range.length, memory);
  }

  /** @internal As many as fit into `into`, which is returned. */
  readInto(into: Uint8Array, offset: number, memory: number): Uint8Array {
    if (this.#closed) throw closedError('snapshot');
    return this.#read(offset, into.length, memory, into);
  }

  /**
   * Writes the bytes as they were to a file, whole or as the difference from `parent`. The file is
   * replaced when the new one is on the disk; whatever fails before, it is as it was. Mode 0600.
   * @throws {UffdError} `ERR_UFFD_SNAPSHOT_PARENT_MISMATCH`, and what the file system refuses.
   */
  async save(path: string, options?: SaveOptions): Promise<SaveStats> {
    return saveSnapshot(sourceOf(this, this.#kinship), path, options);
  }

  /** The bytes of such a file; `SnapshotFile.from()` is the way back. */
  stream(options?: StreamOptions): Readable {
    return streamSnapshot(sourceOf(this, this.#kinship), options);
  }

  /** Ends the capture, frees the copy and stops tracking. Closing twice is fine. */
  close(): void {
    this.#end(closedError('snapshot'));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    if (!(#closed in this)) return 'Snapshot {}';
    return this.#closed ? 'Snapshot { closed }' : `Snapshot { ${this.mode}, ${this.byteLength} bytes }`;
  }

  /** Into the caller's bytes where there are any: fresh ones cost a page fault for every page. */
  #read(
    offset: number,
    length: number,
    memory: number,
    into: Uint8Array = new Uint8Array(length),
  ): Uint8Array {
    const failure = this.#native.read(memory, offset, length, into);
    if (failure !== undefined) throw snapshotError(failure);
    return into;
  }

  #end(reason: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#native.close();
    this.#leaveLineage();
    for (const leave of this.#leaveRegions) leave();
    this.#unlisten?.();
    this.#settle?.reject(reason);
    this.#settle = undefined;
  }

  #onSettled(): void {
    const state = this.#native.state();
    if (isFailure(state) || !state.settled) return;
    this.#native.stopWaiting();
    this.#unlisten?.();
    if (state.failure === undefined) {
      this.#settle?.resolve();
      publishSnapshot('ready', this);
    } else {
      const error = snapshotError(state.failure);
      this.#settle?.reject(error);
      publishSnapshot('failed', this, error);
    }
    this.#settle = undefined;
  }

  #writtenSince(): Float64Array[] | undefined {
    if (this.#closed) return undefined;
    const written = this.#native.written(this.#regions.map((region) => region.bytes));
    return isFailure(written) ? undefined : written;
  }

  #views(): Uint8Array[] {
    if (this.#closed) throw closedError('snapshot');
    return this.#regions.map((region) => region.bytes);
  }
}
