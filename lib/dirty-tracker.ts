// Which pages of a memory were written since the last look.

import { inspect } from 'node:util';
import { binding, isFailure, type NativeDirtyTracker, type NativeFailure } from './binding.js';
import { DirtyPages, type PageSet } from './dirty-pages.js';
import {
  busyError,
  closedError,
  invalidValue,
  outOfRange,
  rangeHasOwner,
  systemError,
  errnoName,
  invalidType,
} from './errors.js';
import { openError } from './opening.js';
import { Region, regionInternals, toRegion, type RegionUser, type Trackable } from './region.js';
import { checkOneOf, checkOptions, checkSignal, CONSTRUCT } from './validate.js';
import { Consumer } from './waiting-iterator.js';

/** How writes are noticed. `wp-async`: the kernel marks them (Linux 6.7), no thread, no privilege. */
export type DirtyEngine = 'wp-async';

export interface DirtyTrackerOptions {
  /** `'auto'` (default) takes the first that works here. */
  engine?: 'auto' | DirtyEngine;
}

export interface WatchOptions {
  /** Time between two looks, in milliseconds. Default 100. */
  intervalMs?: number;
  signal?: AbortSignal;
}

const LONGEST_INTERVAL_MS = 2 ** 31 - 1;

/** One memory of a tracker: a region and its native half. */
interface Tracked {
  region: Region;
  native: NativeDirtyTracker;
  leaveRegion: () => void;
}

/**
 * Tells which pages were written, at the price of the pages that changed. Several trackers may share
 * memory; each sees every write once. Memory that grew is reported from where it grew.
 *
 * Documentation/admin-guide/mm/pagemap.rst (PAGEMAP_SCAN), UFFD_FEATURE_WP_ASYNC.
 */
export class DirtyTracker implements Disposable {
  readonly engine: DirtyEngine = 'wp-async';
  /**
   * Whether a reported page was surely written. False for buffers that share their first or last page
   * with other data (plain ArrayBuffers do): a write to a neighbour reports that page too.
   */
  readonly exact: boolean;
  readonly #tracked: Tracked[] = [];
  readonly #user: RegionUser = { regionClosing: (region) => this.#letGo(region) };
  readonly #watcher = new Consumer<DirtyPages>();
  #closed = false;

  /**
   * Starts tracking: everything written from here on is reported.
   * @throws {UffdError} with `attempts` and `hint` when userfaultfd is not to be had here.
   */
  constructor(memory: Trackable | readonly Trackable[], options: DirtyTrackerOptions = {}) {
    const { engine = 'auto' } = checkOptions('options', options, ['engine']);
    checkOneOf('options.engine', engine, ['auto', 'wp-async']);
    const regions = toRegions(memory);
    checkAsyncTracking();
    try {
      for (const region of regions) this.#tracked.push(this.#track(region));
      this.exact = regions.every((region) => isPageExact(region));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Pages written since the last `collect()` (or the start), which are re-armed in the same step. */
  collect(): DirtyPages {
    return this.#read('collect');
  }

  /** The same pages without re-arming: the next `collect()` reports them again. */
  peek(): DirtyPages {
    return this.#read('peek');
  }

  /**
   * Collects at each interval and yields what is not empty. A slow reader loses nothing: pages are
   * collected only when it asks. One consumer at a time.
   * @throws {UffdError} `ERR_UFFD_BUSY`; the iterator rejects with `AbortError`.
   */
  watch(options: WatchOptions = {}): AsyncIterableIterator<DirtyPages> {
    this.#checkOpen();
    const { intervalMs = 100, signal: given } = checkOptions('options', options, ['intervalMs', 'signal']);
    if (typeof intervalMs !== 'number') throw invalidType('options.intervalMs', 'of type number', intervalMs);
    if (!(intervalMs >= 1 && intervalMs <= LONGEST_INTERVAL_MS)) {
      throw outOfRange('options.intervalMs', `>= 1 and <= ${LONGEST_INTERVAL_MS}`, intervalMs);
    }
    const signal = checkSignal(given);
    if (this.#watcher.present) {
      throw busyError('This tracker is being watched already; one consumer at a time');
    }
    let timer: NodeJS.Timeout | undefined;
    let nextLook = 0;
    return this.#watcher.iterate(
      {
        take: () => {
          if (this.#closed || performance.now() < nextLook) return undefined;
          nextLook = performance.now() + intervalMs;
          const dirty = this.collect();
          return dirty.isEmpty ? undefined : dirty;
        },
        ended: () => this.#closed,
        waiting: (someone) => {
          clearTimeout(timer);
          const pause = Math.max(Math.ceil(nextLook - performance.now()), 1);
          // Sums of floating point numbers may be above what a timer can take.
          if (someone)
            timer = setTimeout(() => this.#watcher.advance(), Math.min(pause, LONGEST_INTERVAL_MS));
        },
        taken: () => undefined,
        released: () => undefined,
      },
      signal,
    );
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<DirtyPages> {
    return this.watch();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Stops tracking and leaves the memory as it is. Closing twice is fine. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { native, leaveRegion } of this.#tracked) {
      native.close();
      leaveRegion();
    }
    this.#watcher.advance();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    if (!(#closed in this)) return 'DirtyTracker {}';
    return this.#closed
      ? 'DirtyTracker { closed }'
      : `DirtyTracker { ${this.engine}, ${this.#tracked.length} memories }`;
  }

  #track(region: Region): Tracked {
    const { keepAlive, attach } = regionInternals(region);
    const native = new (binding().DirtyTracker)();
    const failure = native.open(region.bytes, keepAlive);
    if (failure !== undefined) {
      throw trackingError(failure);
    }
    return { region, native, leaveRegion: attach(this.#user) };
  }

  #letGo(region: Region): void {
    for (const tracked of this.#tracked) {
      if (tracked.region === region) tracked.native.close();
    }
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError('tracker');
  }

  #read(how: 'collect' | 'peek'): DirtyPages {
    this.#checkOpen();
    // All views first: a memory that is gone must not cost the others what they would report.
    const views = this.#tracked.map(({ region }) => region.bytes);
    const sets: PageSet[] = [];
    for (const [i, { native }] of this.#tracked.entries()) {
      const ranges = native[how](views[i]!);
      if (isFailure(ranges)) {
        if (how === 'collect') this.#putBack(sets);
        throw trackingError(ranges);
      }
      sets.push({ ranges, lead: binding().addressInPage(views[i]!) });
    }
    return new DirtyPages(CONSTRUCT, binding().pageSize, sets);
  }

  /** What was taken from the kernel and cannot be handed over is in the next collect. */
  #putBack(sets: readonly PageSet[]): void {
    for (const [i, { ranges }] of sets.entries()) this.#tracked[i]!.native.markDirty(ranges);
  }
}

/** @internal The regions behind what a tracker or a snapshot was given. */
export function toRegions(memory: unknown): Region[] {
  if (!Array.isArray(memory)) return [toRegion('memory', memory)];
  if (memory.length === 0) throw invalidValue('memory', 'must not be an empty array', memory);
  // Not map(), which leaves out the holes of a sparse array.
  return Array.from(memory as unknown[], (each, i) => toRegion(`memory[${i}]`, each));
}

/** @internal */
export function checkAsyncTracking(): void {
  const why = binding().DirtyTracker.whyUnavailable();
  if (why !== undefined) throw openError(why);
}

function isPageExact(region: Region): boolean {
  if (region.kind !== 'foreign') return true;
  const { bytes, pageSize } = region;
  return binding().addressInPage(bytes) === 0 && bytes.byteLength % pageSize === 0;
}

function trackingError(failure: NativeFailure): Error {
  if (errnoName(failure.errno) === 'EBUSY') return rangeHasOwner(failure);
  return errnoName(failure.errno) === 'ESHUTDOWN' ? closedError('tracker') : systemError(failure);
}
