// A restore that returns at once: pages are loaded from the file as they are touched, the rest in the
// background.

import { constants } from 'node:os';
import { inspect } from 'node:util';
import { binding, type NativeFailure, type NativeLazyLoad, type NativeLoadState } from './binding.js';
import {
  closedError,
  errnoName,
  inFile,
  invalidType,
  invalidValue,
  rangeHasOwner,
  snapshotCorrupt,
  systemError,
  UffdError,
} from './errors.js';
import { openError } from './opening.js';
import { isProtectable, regionInternals, type Region, type RegionUser } from './region.js';
import { keepSigbusHandler } from './sigbus-listeners.js';
import type { SnapshotChain } from './snapshot-chain.js';
import type { SnapshotResolver } from './snapshot-options.js';
import { checkRestorable } from './snapshot-restore.js';
import { sourcesOf } from './trackable.js';
import {
  checkConstruct,
  checkFlag,
  checkInteger,
  checkOneOf,
  checkOptions,
  checkWholePages,
  CONSTRUCT,
} from './validate.js';

const LOST_PAGES =
  'What was loaded is in memory. Pages that could not be are poisoned: discard() makes them usable again, and a restore from a copy of the file whole.';

/** A page that somebody waited for. */
export interface PageTouch {
  /** Which of several memories. */
  memory: number;
  /** Bytes; the start of a page. */
  offset: number;
}

export interface LazyRestoreOptions {
  lazy: true;
  /**
   * Who loads a page that is touched. `loop` (default): a native thread; needs the privilege to serve
   * faults inside system calls. `in-thread`: the touching thread itself (UFFD_FEATURE_SIGBUS), without
   * privilege, but a system call on memory not yet loaded (`fs.write` of it, `fs.read` into it) fails
   * with EFAULT.
   */
  resolver?: SnapshotResolver;
  /** Bytes that the background loads a second; pages that are touched come on top. Default: no limit. */
  bytesPerSecond?: number;
  /** What the background loads first: `touches()` of an earlier restore, say. Default: ascending. */
  order?: Iterable<PageTouch>;
}

export interface LoadProgress {
  /** Pages of the memories that have bytes in the file. */
  pages: number;
  /** Pages loaded by the background so far. */
  filled: number;
  /** Pages loaded because they were touched. */
  touched: number;
  /** Bytes of both. */
  bytes: number;
  totalWaitMs: number;
  longestWaitMs: number;
}

/** @internal */
export interface CheckedLazyOptions {
  resolver: SnapshotResolver;
  /** 0: no limit. */
  bytesPerSecond: number;
  /** Pairs of memory and offset. */
  order: Float64Array;
}

/**
 * Memory that is being loaded from a snapshot file. It has its content from the moment `restore`
 * returned: whoever touches a page that is not there yet waits until it has been read and checked.
 * Loading ends only when all is loaded, whatever becomes of this object.
 */
export class LazyRestore implements Disposable {
  readonly #native: NativeLazyLoad;
  readonly #pages: number;
  readonly #file: string;
  readonly #loaded: Promise<LoadProgress>;
  readonly #user: RegionUser = { regionClosing: () => (this.#regionClosed = true) };
  readonly #leaveRegions: readonly (() => void)[];
  #regionClosed = false;
  #settle: { resolve: (progress: LoadProgress) => void; reject: (reason: unknown) => void } | undefined;

  /** @internal */
  constructor(
    token: typeof CONSTRUCT,
    chain: SnapshotChain,
    regions: readonly Region[],
    options: CheckedLazyOptions,
  ) {
    checkConstruct('LazyRestore', token);
    const settled = new Promise<LoadProgress>((resolve, reject) => (this.#settle = { resolve, reject }));
    settled.catch(() => undefined);
    this.#loaded = settled;
    this.#file = chain.newest.file.name;
    this.#native = new (binding().LazyLoad)();
    start(this.#native, chain, regions, options, () => this.#onOver());
    this.#pages = chain.maps.reduce((sum, _, i) => sum + countPages(chain, i, regions[i]!.pageSize), 0);
    this.#leaveRegions = regions.map((region) => regionInternals(region).attach(this.#user));
  }

  /**
   * Settles when every page is there; the memory is then as plain as before. Rejects when a page could
   * not be loaded: `ERR_UFFD_SNAPSHOT_CORRUPT`, or what the file system says. The pages that are missing
   * are poisoned then: whoever touches one gets SIGBUS, never zeros. `region.discard()` heals them.
   * A rejection that nobody looks at is no unhandled one. The process lives until then for whoever
   * asked for it.
   */
  get loaded(): Promise<LoadProgress> {
    if (this.#settle !== undefined) this.#native.keepWaiting();
    return this.#loaded;
  }

  get progress(): LoadProgress {
    return this.#progressOf(this.#native.state());
  }

  /** The pages that somebody waited for so far, in that order: `order` of another restore. */
  touches(): PageTouch[] {
    const pairs = this.#native.touches();
    return Array.from({ length: pairs.length / 2 }, (_, i) => ({
      memory: pairs[2 * i]!,
      offset: pairs[2 * i + 1]!,
    }));
  }

  /**
   * Loads the rest as fast as it goes, and returns when all is there: nothing of the memory depends on
   * the file then. Closing twice is fine.
   * @throws as `loaded` rejects.
   */
  close(): void {
    this.#native.complete();
    const { failure } = this.#native.state();
    if (failure !== undefined && !this.#regionClosed) throw this.#errorOf(failure);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    if (!(#native in this)) return 'LazyRestore {}';
    const { filled, touched, pages } = this.progress;
    return `LazyRestore { ${filled + touched} of ${pages} pages }`;
  }

  #onOver(): void {
    const state = this.#native.state();
    if (!state.over) return;
    this.#native.stopWaiting();
    for (const leave of this.#leaveRegions) leave();
    if (this.#regionClosed) this.#settle?.reject(closedError('region'));
    else if (state.failure === undefined) this.#settle?.resolve(this.#progressOf(state));
    else this.#settle?.reject(this.#errorOf(state.failure));
    this.#settle = undefined;
  }

  #progressOf({ filled, touched, bytes, waitedNs, longestWaitNs }: NativeLoadState): LoadProgress {
    const [totalWaitMs, longestWaitMs] = [waitedNs / 1e6, longestWaitNs / 1e6];
    return { pages: this.#pages, filled, touched, bytes, totalWaitMs, longestWaitMs };
  }

  #errorOf(failure: NativeFailure): unknown {
    switch (failure.errno) {
      case -constants.errno.EBADMSG:
        return inFile(snapshotCorrupt('a page does not match its digest', LOST_PAGES), this.#file);
      case -constants.errno.ENODATA:
        return inFile(snapshotCorrupt('it became shorter', LOST_PAGES), this.#file);
      case -constants.errno.ESTALE:
        return movedAway();
      default:
        return inFile(systemError(failure), this.#file);
    }
  }
}

/** @internal Whether `restore` was asked for it; throws when it was asked for neither. */
export function isLazy(options: unknown): options is LazyRestoreOptions {
  if (typeof options !== 'object' || options === null || !Object.hasOwn(options, 'lazy')) return false;
  return checkFlag('options.lazy', (options as { lazy: unknown }).lazy, false);
}

/** @internal */
export function checkLazyOptions(options: object, regions: readonly Region[]): CheckedLazyOptions {
  const { resolver, bytesPerSecond, order } = checkOptions('options', options, [
    'lazy',
    'resolver',
    'bytesPerSecond',
    'order',
  ]);
  if (bytesPerSecond !== undefined) {
    checkInteger('options.bytesPerSecond', bytesPerSecond, 1, Number.MAX_SAFE_INTEGER);
  }
  return {
    resolver: checkOneOf('options.resolver', resolver ?? 'loop', ['loop', 'in-thread']),
    bytesPerSecond: bytesPerSecond ?? 0,
    order: checkOrder(order ?? [], regions),
  };
}

function start(
  native: NativeLazyLoad,
  chain: SnapshotChain,
  regions: readonly Region[],
  { resolver, bytesPerSecond, order }: CheckedLazyOptions,
  onOver: () => void,
): void {
  const { pageSize, maps, links } = chain;
  checkRestorable(chain, regions);
  for (const region of regions) {
    if (!isProtectable(region)) throw notLoadable(region);
  }
  keepSigbusHandler();
  const failure = native.start(
    {
      memories: sourcesOf(regions),
      files: links.map((link) => link.layout()),
      maps,
      filePageSize: pageSize,
      order,
      inThread: resolver === 'in-thread',
      bytesPerSecond,
    },
    regions.map((region) => regionInternals(region).keepAlive),
    onOver,
  );
  if (failure === undefined) return;
  throw failure.errno === -constants.errno.EOPNOTSUPP && failure.syscall === 'restore'
    ? notLoadable(regions)
    : startError(failure);
}

function notLoadable(memory: unknown): Error {
  return invalidValue(
    'memory',
    'must be a WebAssembly.Memory or allocated by this package, not of a file, no private mapping of a memfd and not aliased, to be loaded lazily',
    memory,
  );
}

function startError(failure: NonNullable<ReturnType<NativeLazyLoad['start']>>): UffdError {
  if (errnoName(failure.errno) === 'EBUSY') return rangeHasOwner(failure);
  const opening =
    'attempts' in failure &&
    (failure.missingFeatures !== 0n || failure.attempts.some(({ errno }) => errno !== 0));
  if (opening && !failure.syscall.startsWith('ioctl(UFFDIO_REGISTER')) {
    return openError(failure, "Ask for resolver 'in-thread', or restore without lazy.");
  }
  return systemError(failure);
}

function checkOrder(order: unknown, regions: readonly Region[]): Float64Array {
  if (typeof order !== 'object' || order === null || !(Symbol.iterator in order)) {
    throw invalidType('options.order', 'an iterable of { memory, offset }', order);
  }
  const pairs: number[] = [];
  for (const touch of order as Iterable<unknown>) {
    const name = `options.order[${pairs.length / 2}]`;
    const { memory, offset } = checkOptions(name, touch, ['memory', 'offset']);
    checkInteger(`${name}.memory`, memory, 0, regions.length - 1);
    const region = regions[memory]!;
    checkInteger(`${name}.offset`, offset, 0, region.byteLength - 1);
    checkWholePages(`${name}.offset`, offset, region.pageSize);
    pairs.push(memory, offset);
  }
  return Float64Array.from(pairs);
}

/** How many pages of the memory have a page of the file. */
function countPages({ maps, pageSize }: SnapshotChain, memory: number, memoryPageSize: number): number {
  const map = maps[memory]!;
  if (memoryPageSize === pageSize) return map.pageCount;
  const each = memoryPageSize / pageSize;
  let [count, behind] = [0, 0];
  for (let run = 0; run < map.length; run++) {
    const first = Math.max(Math.floor(map.first[run]! / each), behind);
    behind = Math.max(Math.ceil((map.first[run]! + map.count[run]!) / each), behind);
    count += behind - first;
  }
  return count;
}

function movedAway(): UffdError {
  return new UffdError('The memory was unmapped or moved before it was loaded', {
    code: 'ERR_UFFD_DETACHED',
    hint: 'Keep the memory until `loaded` has settled.',
  });
}
