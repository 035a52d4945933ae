// A userfaultfd of the kernel as an object: open, register, arm, resolve, observe, close.

import { inspect } from 'node:util';
import {
  binding,
  isFailure,
  type NativeFailure,
  type NativePartial,
  type NativeUserfaultfd,
} from './binding.js';
import {
  busyError,
  closedError,
  errnoName,
  featureNeeded,
  invalidValue,
  loopFailed,
  rangeHasOwner,
  sourceHasSource,
  sourceWouldWait,
  systemError,
  type AccessName,
  type Attempt,
} from './errors.js';
import { EventReader, type UffdEvent } from './events.js';
import { ioctlNames, knownFeatures, type Feature } from './features.js';
import { accessName, attemptsOf, checkOpenOptions, openError, type OpenOptions } from './opening.js';
import { warnOfMerging } from './memory-merging.js';
import {
  arms,
  checkRegion,
  copyRequest,
  fillMode,
  moveMode,
  unprotectMode,
  wakeMode,
  WRITEPROTECT_WP,
  type CopyOptions,
  type MoveOptions,
  type WakeOption,
} from './range-calls.js';
import { keepSigbusHandler } from './sigbus-listeners.js';
import { Region, regionInternals, type RegionUser } from './region.js';
import {
  checkModes,
  checkPolicy,
  type PolicyRequest,
  notRegistered,
  Registration,
  type RegisterMode,
  type RegisterOptions,
} from './registration.js';
import {
  checkConstruct,
  checkInteger,
  checkOptions,
  checkPageRange,
  checkSignal,
  CONSTRUCT,
  type ByteRange,
} from './validate.js';
import { Consumer, Hold } from './waiting-iterator.js';
import { letWatchersGo } from './watch/yielding.js';

const DEFAULT_BATCH = 1024;
const LARGEST_BATCH = 65_536;
/** Events may come as fast as they are taken, and timers, signals and messages must not wait for the last one. */
const LONGEST_TURN_MS = 5;

export interface EventsOptions {
  signal?: AbortSignal;
  /** Events taken from the native queue at a time, 1 to 65,536. Default 1,024. */
  batch?: number;
}

/**
 * An open userfaultfd with its native fault loop. Every fault in memory registered with it is ended
 * by that loop, so no thread waits for JavaScript; what happened is read as events:
 * `for await (const event of uffd)`.
 *
 * man 2 userfaultfd, man 2 ioctl_userfaultfd; Documentation/admin-guide/mm/userfaultfd.rst.
 */
export class Userfaultfd implements AsyncIterable<UffdEvent>, Disposable {
  /** The features that were negotiated. */
  readonly features: ReadonlySet<Feature>;
  /** The way this descriptor was opened. */
  readonly access: AccessName;
  /** Each way that was tried, with its errno. */
  readonly attempts: readonly Attempt[];
  readonly #native: NativeUserfaultfd;
  readonly #registrations = new Map<number, { registration: Registration; leaveRegion: () => void }>();
  /** One, or several of memory that has grown. */
  readonly #idsOf = new Map<Region, Set<number>>();
  /** Unregistered, but perhaps still named by events in the queue; those nobody reads keep no memory. */
  readonly #retired = new Map<number, WeakRef<Region>>();
  readonly #user: RegionUser = {
    regionClosing: (region) => {
      for (const registration of this.#registrationsOf(region)) this.closeRegistration(registration);
    },
  };
  readonly #reader: EventReader;
  readonly #hold = new Hold<Userfaultfd>(this);
  readonly #consumer = new Consumer<UffdEvent>();
  #keepsAlive = true;
  #closed = false;

  private constructor(
    token: typeof CONSTRUCT,
    native: NativeUserfaultfd,
    features: bigint,
    access: AccessName,
    attempts: Attempt[],
  ) {
    checkConstruct('Userfaultfd', token);
    this.#native = native;
    this.features = knownFeatures(features);
    this.#reader = new EventReader(native, {
      regionOf: (id) => this.#registrations.get(id)?.registration.region ?? this.#retired.get(id)?.deref(),
      drained: () => {
        if (this.#retired.size > 0) this.#retired.clear();
      },
      endingOf: (id) => native.endingOf(id),
      resolveFault: (id, answer, bytes, writeProtect) => native.resolveFault(id, answer, bytes, writeProtect),
      checkArming: (region) => this.#checkMode(region, 'write-protect'),
      checkPoison: (what) => this.#needFeature(what, 'POISON'),
      canPoison: this.features.has('POISON'),
    });
    this.access = access;
    this.attempts = attempts;
  }

  /**
   * Opens a userfaultfd: the device first, the system call next, user-mode-only last; features are
   * negotiated on a second descriptor.
   * @throws {UffdError} with every attempt's errno in `attempts`; `ERR_UFFD_FEATURE` when the kernel
   * lacks a required feature.
   */
  static open(options: OpenOptions = {}): Userfaultfd {
    const { required, optional, userMode } = checkOpenOptions(options);
    const native = new (binding().Userfaultfd)();
    // An object nobody holds must not be kept by its own native half, but while somebody waits.
    const self: { hold?: Hold<Userfaultfd> } = {};
    const opened = native.open(required, optional, userMode, () => {
      const live = self.hold?.object;
      if (live !== undefined) live.#wake();
    });
    if (isFailure(opened)) throw openError(opened);
    const uffd = new Userfaultfd(
      CONSTRUCT,
      native,
      opened.features,
      accessName(opened.access),
      attemptsOf(opened.attempts),
    );
    self.hold = uffd.#hold;
    if (uffd.features.has('POISON') || uffd.features.has('SIGBUS')) keepSigbusHandler();
    if (uffd.features.has('SIGBUS')) binding().Snapshot.reinstallSigbusHandler();
    return uffd;
  }

  /** Faults raised inside system calls (a `fs.read` into armed memory) are served, not failed with EFAULT. */
  get handlesKernelFaults(): boolean {
    return this.access !== 'user-mode-only';
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Events that found the native queue full. Their faults were resolved; only the record is missing. */
  get missedEvents(): number {
    return this.#native.missed();
  }

  /** The live registrations. */
  get registrations(): readonly Registration[] {
    return [...this.#registrations.values()].map(({ registration }) => registration);
  }

  /**
   * Registers a region of our own or of a WebAssembly.Memory. `missing` faults come from pages that are
   * not there, `write-protect` ones from writes after `writeProtect`, `minor` ones from pages of shared
   * memory that are there but not mapped here. `options` say who ends them, and how. UFFDIO_REGISTER.
   * @throws {UffdError} `ERR_UFFD_BUSY` when a part of the memory is registered already,
   * `ERR_UFFD_FEATURE` when an option needs a feature that was not negotiated,
   * `ERR_UFFD_SOURCE_REGISTERED` when reading its source would wait for the loop itself, or the memory is
   * the source of another registration.
   */
  register(
    region: Region,
    mode: RegisterMode | readonly RegisterMode[],
    options: RegisterOptions = {},
  ): Registration {
    this.#checkOpen();
    const { byteLength } = checkRegion(region).bytes;
    const modes = checkModes(mode, this.features);
    if (region.kind === 'foreign') {
      throw invalidValue(
        'region',
        'must be memory of its own pages: Region.allocate() or Region.from(WebAssembly.Memory). An ArrayBuffer of V8 shares pages with its neighbours; track it with DirtyTracker instead',
        region,
      );
    }
    if (byteLength === 0) throw invalidValue('region', 'has no bytes yet', region);
    const request = checkPolicy(region, modes, options, this.features);
    try {
      return this.#register(region, modes, request);
    } finally {
      request.release();
    }
  }

  /** All options are read: whatever their getters did to the memory is done. */
  #register(
    region: Region,
    modes: ReadonlySet<RegisterMode>,
    { policy, keepAlive: source }: PolicyRequest,
  ): Registration {
    this.#checkOpen();
    const view = region.bytes;
    const { mapping, keepAlive, attach } = regionInternals(region);
    letWatchersGo(view.buffer);
    const result = this.#native.register(view, policy, mapping, [keepAlive, source]);
    if (isFailure(result)) throw registerError(result);
    const registration = new Registration(CONSTRUCT, this, {
      region,
      modes,
      resolve: policy.handler ? 'handler' : 'native',
      ioctls: new Set(ioctlNames(result.ioctls)),
      // Another thread may have grown the memory since.
      byteLength: view.byteLength,
    });
    this.#registrations.set(result.id, { registration, leaveRegion: attach(this.#user) });
    const ids = this.#idsOf.get(region) ?? new Set();
    this.#idsOf.set(region, ids.add(result.id));
    warnOfMerging();
    return registration;
  }

  /**
   * Ends every registration of this region. Who waits in a fault of it goes on as if it had been ended
   * without JavaScript: with the bytes of its source, which is waited for, else as `fallback` says. What
   * nobody touched is plain memory then, and reads as zero. UFFDIO_UNREGISTER, UFFDIO_WAKE.
   * @throws {UffdError} `ENOMEM` at the limit of mappings: it is registered and served as before, with
   * none of it armed.
   */
  unregister(region: Region): void {
    this.#checkOpen();
    checkRegion(region);
    const registrations = this.#registrationsOf(region);
    if (registrations.length === 0) throw notRegistered();
    for (const registration of registrations) this.closeRegistration(registration);
  }

  /** @internal */
  closeRegistration(registration: Registration): void {
    const { region } = registration;
    const ids = this.#idsOf.get(region) ?? new Set<number>();
    for (const id of ids) {
      const { registration: each, leaveRegion } = this.#registrations.get(id)!;
      if (each !== registration) continue;
      const failure = this.#native.unregister(id);
      // It is still registered. One that the watchdog released is not.
      if (failure !== undefined && errnoName(failure.errno) !== 'ESHUTDOWN') throw systemError(failure);
      leaveRegion();
      this.#registrations.delete(id);
      ids.delete(id);
      if (this.#native.hasEvents()) this.#retired.set(id, new WeakRef(region));
    }
    if (ids.size === 0) this.#idsOf.delete(region);
  }

  /**
   * Arms pages: the next write to each is a fault. `range` is in bytes, whole pages; default all.
   * With WP_UNPOPULATED also pages that do not exist yet; without it those are silently left out, as
   * the kernel does (see `armedPages`). UFFDIO_WRITEPROTECT with MODE_WP.
   */
  writeProtect(region: Region, range?: Partial<ByteRange>): void {
    const { view, offset, length } = this.#target(region, range, 'write-protect');
    this.#check(this.#native.writeProtect(view, offset, length, WRITEPROTECT_WP));
  }

  /** Takes the protection away and wakes the writers that wait. UFFDIO_WRITEPROTECT without MODE_WP. */
  unprotect(region: Region, range?: Partial<ByteRange>, options: WakeOption = {}): void {
    const { view, offset, length } = this.#target(region, range, 'write-protect');
    this.#check(this.#native.writeProtect(view, offset, length, unprotectMode(options)));
  }

  /** How many pages are armed now, also those that do not exist yet. PAGEMAP_SCAN, Linux 6.7. */
  armedPages(region: Region, range?: Partial<ByteRange>): number {
    const { view, offset, length } = this.#target(region, range);
    const bytes = this.#native.armedBytes(view, offset, length);
    if (isFailure(bytes)) throw systemError(bytes);
    return bytes / region.pageSize;
  }

  /** Wakes the threads that wait in these pages; they try again. UFFDIO_WAKE. */
  wake(region: Region, range?: Partial<ByteRange>): void {
    const { view, offset, length } = this.#target(region, range);
    this.#check(this.#native.wake(view, offset, length));
  }

  /**
   * Fills missing pages with `bytes`, atomically for each page. `offset` and the length of `bytes` are
   * whole pages. UFFDIO_COPY.
   * @returns the bytes copied; less than asked when a page in the middle exists already.
   * @throws {UffdError} `EEXIST` when the first page exists already, `ENOENT` when it is not registered,
   * `ERR_UFFD_SOURCE_REGISTERED` when reading `bytes` could itself fault.
   */
  copy(
    region: Region,
    offset: number,
    bytes: ArrayBufferView | ArrayBuffer | SharedArrayBuffer,
    options: CopyOptions = {},
  ): number {
    const { source, mode } = copyRequest(region, offset, bytes, options);
    const target = this.#target(region, { offset, length: source.byteLength });
    if (arms(mode)) this.#checkMode(region, 'write-protect');
    return this.#filled(this.#native.copy(target.view, offset, source, mode), 'ioctl(UFFDIO_COPY)');
  }

  /**
   * Fills missing pages with zeros. `range` is in bytes, whole pages; default all. UFFDIO_ZEROPAGE.
   * @returns the bytes filled; less than asked when a page in the middle exists already.
   * @throws {UffdError} `EEXIST` when the first page exists already (an armed hole counts as existing).
   */
  zeropage(region: Region, range?: Partial<ByteRange>, options: WakeOption = {}): number {
    const { view, offset, length } = this.#target(region, range);
    const mode = wakeMode(options);
    return this.#filled(this.#native.zeropage(view, offset, length, mode), 'ioctl(UFFDIO_ZEROPAGE)');
  }

  /**
   * Maps pages of shared memory that are in the page cache (another mapping filled them) but not mapped
   * here. `range` is in bytes, whole pages; default all. UFFDIO_CONTINUE.
   * @returns the bytes mapped; less than asked when a page in the middle cannot be.
   * @throws {UffdError} `EFAULT` when the first page is not in the page cache, `EEXIST` when it is
   * mapped already.
   */
  continue(region: Region, range?: Partial<ByteRange>, options: CopyOptions = {}): number {
    const { view, offset, length } = this.#target(region, range, 'minor');
    const mode = fillMode(options);
    if (arms(mode)) this.#checkMode(region, 'write-protect');
    return this.#filled(this.#native.continue(view, offset, length, mode), 'ioctl(UFFDIO_CONTINUE)');
  }

  /**
   * Moves pages from `source` into missing pages without copying them: the source then reads as zero.
   * `offset`, `sourceRange` are bytes, whole pages. Private anonymous memory only. UFFDIO_MOVE (Linux
   * 6.8), feature MOVE.
   * @returns the bytes moved; less than asked when a page in the middle cannot be.
   */
  move(
    region: Region,
    offset: number,
    source: Region,
    sourceRange?: Partial<ByteRange>,
    options: MoveOptions = {},
  ): number {
    this.#checkFeature('move()', 'MOVE');
    checkInteger('offset', offset, 0, Number.MAX_SAFE_INTEGER);
    const from = checkRegion(source, 'source');
    const part = checkPageRange(sourceRange, from.bytes.byteLength, from.pageSize);
    const target = this.#target(region, { offset, length: part.length });
    const mode = moveMode(options);
    if (from.kind === 'foreign') {
      throw invalidValue(
        'source',
        'must be memory of its own pages: Region.allocate() or a WebAssembly.Memory',
        source,
      );
    }
    if (binding().hasSource(from.bytes, part.offset, part.length)) throw sourceHasSource();
    const moved = this.#native.move(target.view, offset, from.bytes, part.offset, part.length, mode);
    return this.#filled(moved, 'ioctl(UFFDIO_MOVE)');
  }

  /**
   * Marks missing pages as lost: whoever touches them gets SIGBUS, as from a memory error, and a
   * process that does not handle it dies. `range` is in bytes, whole pages; default all. UFFDIO_POISON
   * (Linux 6.6), feature POISON.
   * @returns the bytes poisoned; less than asked when a page in the middle exists already.
   */
  poison(region: Region, range?: Partial<ByteRange>, options: WakeOption = {}): number {
    this.#checkFeature('poison()', 'POISON');
    const { view, offset, length } = this.#target(region, range);
    const mode = wakeMode(options);
    return this.#filled(this.#native.poison(view, offset, length, mode), 'ioctl(UFFDIO_POISON)');
  }

  /**
   * What happens in the registered memory, in the order it was resolved. One consumer at a time; a
   * `break`, an abort or `close()` ends it, and another may begin where it ended.
   * @throws {UffdError} `ERR_UFFD_BUSY`, `ERR_UFFD_CLOSED`; the iterator rejects with `AbortError`, or
   * with `ERR_UFFD_LOOP_FAILED` when the loop could not go on.
   */
  events(options: EventsOptions = {}): AsyncIterableIterator<UffdEvent> {
    this.#checkOpen();
    const { batch = DEFAULT_BATCH, signal: given } = checkOptions('options', options, ['signal', 'batch']);
    checkInteger('options.batch', batch, 1, LARGEST_BATCH);
    const signal = checkSignal(given);
    if (this.#consumer.present) {
      throw busyError('The events of this userfaultfd are being read already; one consumer at a time');
    }
    this.#reader.batch = batch;
    return this.#consumer.iterate(
      {
        take: () => this.#reader.take(),
        ended: () => this.#ended(),
        waiting: (someone) => {
          this.#hold.keep(someone ? this : undefined);
          this.#native.setRef(someone && this.#keepsAlive);
        },
        taken: () => this.#native.setConsumer(true),
        released: () => this.#native.setConsumer(false),
        longestTurn: LONGEST_TURN_MS,
      },
      signal,
    );
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<UffdEvent> {
    return this.events();
  }

  /** Waiting for events keeps the process alive (the default). */
  ref(): this {
    this.#keepsAlive = true;
    this.#reader.isWoken = !this.#closed;
    this.#consumer.advance();
    return this;
  }

  /** Waiting for events does not keep the process alive. */
  unref(): this {
    this.#keepsAlive = false;
    this.#reader.isWoken = false;
    this.#consumer.advance();
    return this;
  }

  /**
   * Unregisters everything as `unregister()` does, ends the loop, closes the descriptor. When it returns
   * no thread sleeps in a fault of this object. An iterator that waits is done. Closing twice is fine.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#native.close();
    for (const [id, { registration, leaveRegion }] of this.#registrations) {
      leaveRegion();
      // Whoever iterates still gets what had happened.
      this.#retired.set(id, new WeakRef(registration.region));
    }
    this.#registrations.clear();
    this.#idsOf.clear();
    this.#reader.isWoken = false;
    this.#consumer.advance();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    if (!(#closed in this)) return 'Userfaultfd {}';
    return this.#closed
      ? 'Userfaultfd { closed }'
      : `Userfaultfd { ${this.access}, ${this.#registrations.size} registered, ${[...this.features].join(' ')} }`;
  }

  /** From the event loop: there may be events, or the end of them. */
  #wake(): void {
    this.#reader.wake();
    this.#consumer.wake();
  }

  #ended(): boolean | Error {
    if (!this.#reader.atEnd) return false;
    const failedWith = this.#native.failedWith();
    return failedWith === 0 ? true : loopFailed(failedWith);
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError('userfaultfd');
    if (!this.#native.released()) return;
    const failedWith = this.#native.failedWith();
    throw failedWith === 0 ? closedError('userfaultfd') : loopFailed(failedWith);
  }

  #checkFeature(what: string, feature: Feature): void {
    this.#checkOpen();
    this.#needFeature(what, feature);
  }

  #needFeature(what: string, feature: Feature): void {
    if (!this.features.has(feature)) throw featureNeeded(what, [feature]);
  }

  #registrationsOf(region: Region): Registration[] {
    return [...(this.#idsOf.get(region) ?? [])].map((id) => this.#registrations.get(id)!.registration);
  }

  #checkMode(region: Region, mode: RegisterMode): void {
    if (!this.#registrationsOf(region).some((each) => each.modes.has(mode))) {
      throw notRegistered(mode);
    }
  }

  #target(region: Region, range: unknown, mode?: RegisterMode): ByteRange & { view: Uint8Array } {
    this.#checkOpen();
    const view = checkRegion(region).bytes;
    const [registration] = this.#registrationsOf(region);
    if (registration === undefined) throw notRegistered();
    if (mode !== undefined) this.#checkMode(region, mode);
    return { view, ...checkPageRange(range, registration.byteLength, region.pageSize) };
  }

  #check(failure: NativeFailure | undefined): void {
    if (failure !== undefined) throw systemError(failure);
  }

  #filled(partial: NativePartial, syscall: string): number {
    if (partial.bytes === 0 && partial.errno !== 0) throw systemError({ errno: partial.errno, syscall });
    return partial.bytes;
  }
}

function registerError(failure: NativeFailure): Error {
  const code = errnoName(failure.errno);
  if (code === 'ELOOP') return sourceWouldWait();
  return code === 'EBUSY' ? rangeHasOwner(failure) : systemError(failure);
}
