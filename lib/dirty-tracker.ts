// Which pages of a memory were written since the last look.

import { inspect } from 'node:util';
import { binding, isFailure, type NativeDirtyTracker, type NativeFailure } from './binding.js';
import { chooseEngine, engineNumber, warnOfFallback, type DirtyEngine } from './dirty-engine.js';
import type { KnownWrites } from './first-writes.js';
import { warnOfMerging } from './memory-merging.js';
import { DirtyPages } from './dirty-pages.js';
import { checkWatchOptions, watchIterator, type WatchOptions } from './dirty-watch.js';
import { busyError, closedError, errnoName, invalidValue, rangeHasOwner, systemError } from './errors.js';
import { PackedPages } from './packed-pages.js';
import type { PageSet } from './page-set.js';
import { regionInternals, type Region, type RegionUser, type Trackable } from './region.js';
import { isPageExact, toRegions } from './trackable.js';
import {
  checkByteRange,
  checkFlag,
  checkInteger,
  checkOptions,
  CONSTRUCT,
  type ByteRange,
} from './validate.js';
import { Consumer } from './waiting-iterator.js';

export interface DirtyTrackerOptions {
  /** `'auto'` (default) takes the first that works here, and warns once when that is `compare`. */
  engine?: 'auto' | DirtyEngine;
  /**
   * Lets `wp-sync` do without privilege: system calls that write to the memory (`fs.read`) then fail
   * with EFAULT. Default `false`: it works with privilege or not at all.
   */
  userModeOnly?: boolean;
}

/** One memory of a tracker: a region and its native half. */
interface Tracked {
  region: Region;
  native: NativeDirtyTracker;
  /** In bytes: of the pages that the native half tells. */
  pageSize: number;
  leaveRegion: () => void;
}

/**
 * Tells which pages were written, at the price of the pages that changed. Several trackers may share
 * memory; each sees every write once. Memory that grew is reported from where it grew.
 *
 * Documentation/admin-guide/mm/pagemap.rst (PAGEMAP_SCAN), UFFD_FEATURE_WP_ASYNC.
 */
export class DirtyTracker implements Disposable {
  readonly engine: DirtyEngine;
  /**
   * Whether the pages reported are exactly those written. False for buffers that share their first or
   * last page with other data (plain ArrayBuffers do): a write to a neighbour reports that page too.
   * False with `compare`, which does not see a write that leaves the bytes as they were.
   */
  readonly exact: boolean;
  readonly #tracked: Tracked[] = [];
  readonly #user: RegionUser = { regionClosing: (region) => this.#letGo(region) };
  readonly #userModeOnly: boolean;
  readonly #watcher = new Consumer<DirtyPages>();
  #closed = false;

  /**
   * Starts tracking: everything written from here on is reported.
   * @throws {UffdError} with `attempts` and `hint` when the engine asked for does not work here.
   */
  constructor(memory: Trackable | readonly Trackable[], options?: DirtyTrackerOptions);
  /** @internal A further consumer of `source`. */
  constructor(memory: readonly Region[], options: DirtyTrackerOptions, source: DirtyTracker);
  constructor(
    memory: Trackable | readonly Trackable[],
    options: DirtyTrackerOptions = {},
    source?: DirtyTracker,
  ) {
    const given = checkOptions('options', options, ['engine', 'userModeOnly']);
    const { engine } = given;
    const userModeOnly = checkFlag('options.userModeOnly', given.userModeOnly, false);
    const regions = toRegions(memory);
    this.#userModeOnly = userModeOnly;
    const chosen = chooseEngine('options.engine', engine, { regions, userModeOnly });
    const isOwnChoice = engine === undefined || engine === 'auto';
    try {
      this.engine = this.#trackAll(regions, source, chosen, isOwnChoice);
      this.exact = this.engine !== 'compare' && regions.every(isPageExact);
    } catch (error) {
      this.close();
      throw error;
    }
    if (this.engine === 'compare' && isOwnChoice) warnOfFallback();
    if (this.engine !== 'compare') warnOfMerging();
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
   * Another tracker over the same memories with its own "since I last looked", which is now. It shares
   * the work of this one (and, with `compare`, the copy), and lives until it is closed itself.
   */
  consumer(): DirtyTracker {
    this.#checkOpen();
    const regions = this.#tracked.map(({ region }) => region);
    return new DirtyTracker(regions, { engine: this.engine, userModeOnly: this.#userModeOnly }, this);
  }

  /**
   * Counts these pages as written, for this tracker and all its consumers: for writes that nobody can
   * see (through pages pinned before they were tracked: O_DIRECT, io_uring's fixed buffers), and for
   * pages that were collected and could not be handled. A range is bytes, by default all of `memory`.
   */
  markDirty(what: Partial<ByteRange> | DirtyPages = {}, memory = 0): void {
    this.#checkOpen();
    if (what instanceof DirtyPages) {
      if (what.memoryCount !== this.#tracked.length) {
        throw invalidValue('what', 'must be a set of pages of the memories of this tracker', what);
      }
      for (const [i, { region, native }] of this.#tracked.entries()) {
        binding().dirtyTracker.markDirty(native, region.bytes, what.toFloat64Array(i));
      }
      return;
    }
    const { region, native } = this.#at(memory);
    const { bytes } = region;
    const range = checkByteRange(what, bytes.byteLength);
    binding().dirtyTracker.markDirty(native, bytes, Float64Array.of(range.offset, range.length));
  }

  /**
   * Gives whole pages back to the kernel, like `region.discard`: they read as zero and count as
   * written, also where they were zero before. Owned and Wasm memory.
   */
  discard({ offset, length }: Partial<ByteRange> = {}, memory = 0): void {
    this.#checkOpen();
    const { region } = this.#at(memory);
    region.discard(offset, length);
    const range = {
      ...(offset === undefined ? {} : { offset }),
      ...(length === undefined ? {} : { length }),
    };
    this.markDirty(range, memory);
  }

  /**
   * Collects at each interval and yields what is not empty. A slow reader loses nothing: pages are
   * collected only when it asks. One reader at a time; `consumer()` makes further ones.
   * @throws {UffdError} `ERR_UFFD_BUSY`; the iterator rejects with `AbortError`.
   */
  watch(options: WatchOptions = {}): AsyncIterableIterator<DirtyPages> {
    this.#checkOpen();
    const checked = checkWatchOptions(options);
    if (this.#watcher.present) {
      throw busyError('This tracker is being watched already; watch tracker.consumer() for another reader');
    }
    return watchIterator(this, checked, this.#watcher);
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
    this.#release();
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

  /** Returns the engine: some memory (of a file, or old kernels) is not for `wp-sync`. */
  #trackAll(
    regions: readonly Region[],
    source: DirtyTracker | undefined,
    engine: DirtyEngine,
    mayCompare: boolean,
  ): DirtyEngine {
    try {
      for (const [i, region] of regions.entries()) {
        const native = source === undefined ? undefined : source.#tracked[i]!.native;
        this.#tracked.push(this.#track(region, native, engine));
      }
      return engine;
    } catch (error) {
      if (!mayCompare || engine !== 'wp-sync' || (error as { code?: string }).code !== 'EINVAL') throw error;
      this.#release();
      return this.#trackAll(regions, source, 'compare', false);
    }
  }

  #track(region: Region, source: NativeDirtyTracker | undefined, engine: DirtyEngine): Tracked {
    const { keepAlive, attach, liesIn } = regionInternals(region);
    const calls = binding().dirtyTracker;
    const { bytes, pageSize } = region;
    const native =
      source === undefined
        ? calls.open(bytes, keepAlive, engineNumber(engine, this.#userModeOnly), pageSize, liesIn)
        : calls.join(source, bytes, keepAlive);
    if (isFailure(native)) throw trackingError(native);
    return { region, native, pageSize, leaveRegion: attach(this.#user) };
  }

  #release(): void {
    for (const { native, leaveRegion } of this.#tracked.splice(0)) {
      binding().dirtyTracker.close(native);
      leaveRegion();
    }
  }

  #letGo(region: Region): void {
    for (const tracked of this.#tracked) {
      if (tracked.region === region) binding().dirtyTracker.close(tracked.native);
    }
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError('tracker');
  }

  #at(memory: number): Tracked {
    checkInteger('memory', memory, 0, this.#tracked.length - 1);
    return this.#tracked[memory]!;
  }

  #read(how: 'collect' | 'peek'): DirtyPages {
    this.#checkOpen();
    // All views first: a memory that is gone must not cost the others what they would report.
    const views: Uint8Array[] = [];
    for (const { region } of this.#tracked) views.push(region.bytes);
    const calls = binding().dirtyTracker;
    const collected: string[] = [];
    for (let i = 0; i < views.length; i++) {
      const packed = calls[how](this.#tracked[i]!.native, views[i]!);
      if (isFailure(packed)) {
        if (how === 'collect') this.#putBack(collected, views);
        throw trackingError(packed);
      }
      collected.push(packed);
    }
    const sets: PageSet[] = [];
    for (let i = 0; i < views.length; i++) {
      const { region, native, pageSize } = this.#tracked[i]!;
      const view = views[i]!;
      // When nothing can fail any more: they are told once.
      const writes = how === 'collect' ? this.#writesTo(native, view) : undefined;
      sets.push(new PackedPages(collected[i]!, view.byteLength, pageSize, region, writes));
    }
    return new DirtyPages(CONSTRUCT, sets);
  }

  #writesTo(native: NativeDirtyTracker, view: Uint8Array): KnownWrites | undefined {
    const known = this.engine === 'wp-sync' ? binding().dirtyTracker.takeWrites(native, view) : undefined;
    return known === undefined || isFailure(known) ? undefined : { list: known.writes, missed: known.missed };
  }

  /** What was taken from the kernel and cannot be handed over is in the next collect. */
  #putBack(collected: readonly string[], views: readonly Uint8Array[]): void {
    for (const [i, packed] of collected.entries()) {
      const { native, pageSize } = this.#tracked[i]!;
      const view = views[i]!;
      binding().dirtyTracker.putBack(native, view, new PackedPages(packed, view.byteLength, pageSize).ranges);
    }
  }
}

function trackingError(failure: NativeFailure): Error {
  if (errnoName(failure.errno) === 'EBUSY') return rangeHasOwner(failure);
  return errnoName(failure.errno) === 'ESHUTDOWN' ? closedError('tracker') : systemError(failure);
}
