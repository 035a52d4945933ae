// The only file that loads the addon. Its native surface, typed.

import path from 'node:path';
import loadBindings from 'bindings';
import { shortageHint, UffdError, type NativeFailure } from './errors.js';
import type { PageMap } from './page-runs.js';

export type { NativeFailure };

export interface NativeAttempt {
  access: number;
  errno: number;
}

export interface NativeOpenFailure extends NativeFailure {
  attempts: NativeAttempt[];
  missingFeatures: bigint;
}

/** Bytes done before `errno` stopped the call; 0 when nothing did. */
export interface NativePartial {
  bytes: number;
  errno: number;
}

export type NativeToken = object;

/** How the faults of a registration end: Policy in native/core/registration_table.h. */
export interface NativePolicy {
  mode: number;
  pageSize: number;
  handler: boolean;
  deadlineMs: number;
  poison: boolean;
  source?:
    | { mapping: NativeToken; offset: number }
    | { shared: Uint8Array; offset: number }
    | { fd: number; offset: number; length: number };
}

/** EndingNumber of native/userfaultfd_wrap.cc: an index into ENDED_BY of lib/page-fault.ts, and one into its ACTIONS. */
export type NativeEnding = number;

/** MappingRequest of native/core/mapping.h. */
export interface NativeAllocation {
  backing: number;
  bytes: number;
  pageSize: number;
  mapShared: boolean;
  advice: number;
  path: string;
  fileOffset: number;
  /** A shared buffer to lay the pages over. */
  over: Uint8Array | undefined;
}

export interface NativeRegion extends NativeMemory {
  /** Of its own; undefined where it lies over a shared one, then from `offset` on. */
  buffer?: ArrayBuffer;
  offset?: number;
  backing: number;
  bytes: number;
}

export interface NativeMemory {
  /** Of the backing, in bytes. */
  pageSize: number;
  mapping: NativeToken;
}

export interface NativeUserfaultfd {
  open(
    required: bigint,
    optional: bigint,
    userMode: number,
    onReadable: () => void,
  ): { features: bigint; access: number; attempts: NativeAttempt[] } | NativeOpenFailure;
  register(
    view: Uint8Array,
    policy: NativePolicy,
    mapping: NativeToken | undefined,
    keepAlive: object,
  ): { id: number; ioctls: bigint } | NativeFailure;
  unregister(id: number): NativeFailure | undefined;
  writeProtect(view: Uint8Array, offset: number, length: number, mode: number): NativeFailure | undefined;
  wake(view: Uint8Array, offset: number, length: number): NativeFailure | undefined;
  copy(view: Uint8Array, offset: number, source: Uint8Array, mode: number): NativePartial;
  zeropage(view: Uint8Array, offset: number, length: number, mode: number): NativePartial;
  continue(view: Uint8Array, offset: number, length: number, mode: number): NativePartial;
  poison(view: Uint8Array, offset: number, length: number, mode: number): NativePartial;
  move(
    view: Uint8Array,
    offset: number,
    source: Uint8Array,
    sourceOffset: number,
    length: number,
    mode: number,
  ): NativePartial;
  /**
   * `answer`: 0 what the reason asks for (`bytes` for a missing page, else zeros), 1 poison. Below 0: an
   * errno; ELOOP: reading `bytes` could itself fault.
   */
  resolveFault(
    id: number,
    answer: number,
    bytes: Uint8Array | undefined,
    writeProtect: boolean,
  ): NativeEnding;
  endingOf(id: number): NativeEnding;
  /** The event of a forked child is in somebody's hands. False: its userfaultfd is closed. */
  takeChild(id: number): boolean;
  isChildOpen(id: number): boolean;
  /** `call`: ChildCall of native/core/forked_children.h. */
  onChild(
    id: number,
    call: number,
    view: Uint8Array,
    offset: number,
    length: number,
    mode: number,
    bytes: Uint8Array | undefined,
  ): NativePartial;
  closeChild(id: number): void;
  setConsumer(present: boolean): void;
  armedBytes(view: Uint8Array, offset: number, length: number): number | NativeFailure;
  /**
   * Fills `out` with events, FIELDS of lib/events.ts numbers each, and returns their number; -1 minus that
   * when none is left and none will come.
   */
  drain(out: Float64Array): number;
  /** Its loop ends no faults any more. */
  released(): boolean;
  /** An errno, or 0. */
  failedWith(): number;
  /** Events that found no room in the queue. */
  missed(): number;
  /** Some wait to be drained. */
  hasEvents(): boolean;
  setRef(ref: boolean): void;
  close(): void;
}

/** One reader of one tracked memory, which `DirtyTrackerCalls` take. It is closed when it is collected. */
export interface NativeDirtyTracker {
  readonly isOpaque: unique symbol;
}

export interface DirtyTrackerCalls {
  open(
    view: Uint8Array,
    keepAlive: object,
    /** DirtyEngine of native/core/dirty_engine.h. */
    engine: number,
    pageSize: number,
    mapping: NativeToken | undefined,
  ): NativeDirtyTracker | NativeFailure;
  /** One more reader of what `other` tracks. */
  join(other: NativeDirtyTracker, view: Uint8Array, keepAlive: object): NativeDirtyTracker | NativeFailure;
  /** As `PackedPages` reads them. */
  collect(tracker: NativeDirtyTracker, view: Uint8Array): string | NativeFailure;
  peek(tracker: NativeDirtyTracker, view: Uint8Array): string | NativeFailure;
  /** `[offset, threadId, …]` of what was collected since, and how many more there were. */
  takeWrites(
    tracker: NativeDirtyTracker,
    view: Uint8Array,
  ): { writes: Float64Array; missed: number } | NativeFailure;
  /** The next collect of each reader reports the pages of these `[offset, length, …]`. */
  markDirty(tracker: NativeDirtyTracker, view: Uint8Array, ranges: Float64Array): void;
  /** The next collect of this reader does. */
  putBack(tracker: NativeDirtyTracker, view: Uint8Array, ranges: Float64Array): void;
  /**
   * From here on the memory may be collected. Only for engines that stop no thread, and no reading
   * once `memory()` is undefined.
   */
  holdWeakly(tracker: NativeDirtyTracker): void;
  /** What `keepAlive` was; undefined when it was collected. */
  memory(tracker: NativeDirtyTracker): object | undefined;
  close(tracker: NativeDirtyTracker): void;
  whyUnavailable(engine: number): NativeOpenFailure | undefined;
  /** Where `live` differs from `copy` inside `ranges`, as `[offset, length, …]`. */
  differingBytes(live: Uint8Array, copy: Uint8Array, ranges: Float64Array): Float64Array;
}

/** The same as of opening: `attempts` tells which way of it failed, if one did. */
export type NativeCaptureFailure = NativeOpenFailure;

export interface NativeCaptureState {
  settled: boolean;
  failure: NativeFailure | undefined;
  swept: number;
  faulted: number;
  bytes: number;
  waits: number;
  waitedNs: number;
  longestWaitNs: number;
}

/** A memory to copy, to track or to load. */
export interface NativeSource {
  view: Uint8Array;
  /** Of the memory, in bytes. */
  pageSize: number;
  /** Memory of our own. */
  mapping: NativeToken | undefined;
}

export interface NativeSnapshot {
  take(
    sources: NativeSource[],
    keepAlive: object,
    engine: number,
    maxBytes: number,
  ): NativeFailure | undefined;
  takeCopyOnWrite(
    sources: NativeSource[],
    keepAlive: object,
    engine: number,
    options: { inThread: boolean; maxBytes: number; bytesPerSecond: number },
    onSettled: () => void,
  ): NativeCaptureFailure | undefined;
  state(): NativeCaptureState | NativeFailure;
  /** Keeps the process alive until it has settled. */
  keepWaiting(): void;
  /** In `onSettled` only: no further call of it. */
  stopWaiting(): void;
  restore(views: Uint8Array[]): { pages: number; bytes: number; different: number } | NativeFailure;
  /** Also pages that are as they were; ENOTSUP where writes are not seen. */
  written(views: Uint8Array[]): Float64Array[] | NativeFailure;
  diff(views: Uint8Array[]): Float64Array[] | NativeFailure;
  /** `into`: at least `length` bytes, which are then what is returned. */
  read(memory: number, offset: number, length: number, into: Uint8Array): NativeFailure | undefined;
  close(): void;
}

/** Where a chain of files has the pages of its memories. */
export interface NativeSnapshotPages {
  files: { fd: number; pagesAt: number; digestsAt: number }[];
  maps: readonly PageMap[];
  filePageSize: number;
}

export interface NativeLoadRequest extends NativeSnapshotPages {
  memories: NativeSource[];
  /** `[memory, offset, …]` */
  order: Float64Array;
  inThread: boolean;
  bytesPerSecond: number;
}

/** `failure` can be `undefined` also before it is over. */
export interface NativeLoadState {
  over: boolean;
  failure: NativeFailure | undefined;
  filled: number;
  touched: number;
  bytes: number;
  waitedNs: number;
  longestWaitNs: number;
}

export interface NativeLazyLoad {
  start(
    request: NativeLoadRequest,
    keepAlive: object,
    onOver: () => void,
  ): NativeCaptureFailure | NativeFailure | undefined;
  state(): NativeLoadState;
  /** `[memory, offset, …]`, in order. */
  touches(): Float64Array;
  /** Returns when it is over. */
  complete(): void;
  /** Keeps the process alive until it is over. */
  keepWaiting(): void;
  /** In `onOver` only: no further call of it. */
  stopWaiting(): void;
}

export interface NativeSnapshotHistory {
  track(
    sources: NativeSource[],
    keepAlive: object,
    engine: number,
    outsideWriters: boolean,
  ): NativeFailure | undefined;
  /** The number of the new entry. The others take one of an entry that there is. */
  take(views: Uint8Array[], mostBytes: number | undefined): number | NativeFailure;
  checkRestore(entry: number, views: Uint8Array[]): NativeFailure | undefined;
  restore(
    entry: number,
    views: Uint8Array[],
  ): { pages: number; bytes: number; different: number } | NativeFailure;
  diff(a: number, b: number): Float64Array[] | NativeFailure;
  diffLive(entry: number, views: Uint8Array[]): Float64Array[] | NativeFailure;
  read(entry: number, memory: number, offset: number, into: Uint8Array): NativeFailure | undefined;
  drop(entry: number): NativeFailure | undefined;
  /**
   * What `take` and `drop` left to be done is done, by another thread where one is at hand, which then makes the
   * memory that the next entry will probably take.
   */
  keepUp(): void;
  /** Of all entries. */
  bytes(): number | NativeFailure;
  /** By which taking it made that more. */
  addedBytes(entry: number): number | NativeFailure;
  /** What dropping it would free. */
  ownBytes(entry: number): number | NativeFailure;
  close(): void;
}

export interface NativeProbe {
  pageSize: number;
  attempts: NativeAttempt[];
  features: bigint;
  ioctls: bigint;
  pagemapOpenErrno: number;
  pagemapScanErrno: number;
  wpAsyncErrno: number;
}

export type NativeCounted =
  'ioctl' | 'mmap' | 'munmap' | 'madvise' | 'poll' | 'read' | 'write' | 'pread' | 'allocations';

/** Present in the test build only (`npm test` builds it). */
export interface NativeTesting {
  closeBarrier(name: string): void;
  openBarrier(name: string): void;
  waitingAt(name: string): number;
  /** Sleeps until somebody waits there, for some seconds at most: whether somebody does. */
  awaitAt(name: string): boolean;
  /** The next thread that comes to the barrier writes the first byte itself. */
  writeAtBarrier(name: string, view: Uint8Array, value: number): void;
  disableNet(name: 'exit' | 'cleanup' | 'watchdog'): void;
  injectResolveError(errno: number): void;
  /** What the addon called since it was loaded, in all threads: system calls by name, and `allocations`. */
  counts(): Record<NativeCounted, number>;
  /** Bytes this package has mapped now. */
  mappedBytes(): number;
  /** Where these bytes are, to be found in /proc/self/smaps. */
  addressOf(view: Uint8Array): bigint;
  /** Gives forked children this memory (MADV_DOFORK): only then the kernel raises EVENT_FORK for it. */
  inheritOnFork(view: Uint8Array): NativeFailure | undefined;
  /** From now on every way of opening a userfaultfd fails with this positive errno. 0, or why it did not work. */
  refuseUserfaultfd(errno: number): number;
  /** The same for one ioctl, by its name: `'UFFDIO_COPY'`, `'PAGEMAP_SCAN'`. */
  refuseIoctl(name: string, errno: number): number;
  /** The same for MADV_POPULATE_READ. */
  refusePopulateRead(errno: number): number;
  /** From now on no userfaultfd offers these features (UFFD_FEATURE_* bits), as on an older kernel. */
  withholdFeatures(features: bigint): void;
  /** Whether /proc/self/pagemap hides what is write-protected, as before Linux 5.14. */
  hideProtection(hide: boolean): void;
  /** Whether a second thread helps also where no processor is idle, and however soon the work would be done. */
  helpAlways(always: boolean): void;
  /** Event loops stay awake for the next fault after every answer, however late it was lately. */
  lingerAlways(always: boolean): void;
  /** How many such threads do not rest; one that was called off does when it has noticed. */
  helpersAtWork(): number;
  /** The next PAGEMAP_SCAN is done by the kernel and then fails with this positive errno. */
  injectScanError(errno: number): void;
  /** PR_SET_MEMORY_MERGE: KSM may merge all memory of this process. 0 or a positive errno. */
  mergeMemory(on: boolean): number;
  /**
   * Forks this process as it is. The child takes `orders`, a byte each, and writes a byte for each page to
   * `report` after each: ForkChild of native/core/test_kernel.h has them. With a `pinFile` it first writes
   * its pages there with O_DIRECT.
   */
  forkChild(
    view: Uint8Array,
    pageSize: number,
    value: number,
    pinFile: string,
  ): { pid: number; orders: number; report: number } | NativeFailure;
  /** Blocks until it has ended: its wait status. */
  reapChild(pid: number): number;
  /** Pins the pages until the descriptor is closed. */
  pinPages(view: Uint8Array): number | NativeFailure;
  /**
   * Reads a file through io_uring into memory that `pin` (of pinPages) has pinned; -1: that is not pinned.
   * The bytes read.
   */
  readByRing(pin: number, file: number, fileOffset: number, view: Uint8Array): number | NativeFailure;
  /** Fills the memory by process_vm_writev(2). */
  writeFromOutside(view: Uint8Array, value: number): NativeFailure | undefined;
  /** mprotect(2); `prot` is of PROT_*. */
  protect(view: Uint8Array, prot: number): NativeFailure | undefined;
  /** Runs a program by posix_spawn(3): its wait status. */
  spawn(program: string): number | NativeFailure;
  /** Has a thread of native code read the first byte, and waits for its end. */
  readInThread(view: Uint8Array): number | NativeFailure;
  /** One PAGEMAP_SCAN with room for `room` regions (at most 64), behind the back of trackers: `[offset, length, …]`. */
  scanOnce(view: Uint8Array, room: number): Float64Array | NativeFailure;
  /** Scans return so many regions at a time; to be called before the first. */
  setScanRoom(regions: number): void;
  /** Registers every other page by itself until the kernel refuses (a positive errno), and ends that again. */
  registerEveryOther(view: Uint8Array): { count: number; stoppedBy: number } | NativeFailure;
  /** Registers the memory for asynchronous tracking and arms none of it, until the process ends. */
  registerUnarmed(view: Uint8Array): NativeFailure | undefined;
  /** New memory at the same addresses: mmap(2) with MAP_FIXED. */
  mapAnew(view: Uint8Array): NativeFailure | undefined;
  /** Leaves nothing at these addresses: munmap(2). */
  unmap(view: Uint8Array): NativeFailure | undefined;
  /** A second mapping of shared memory somewhere else: mremap(2) of no bytes. */
  mapTwice(view: Uint8Array): NativeFailure | undefined;
  /** `mapAnew` with a file, shared and for reading only. */
  mapFile(view: Uint8Array, path: string): NativeFailure | undefined;
  /** Maps until no mapping can be split any more (vm.max_map_count). */
  takeMappings(): NativeFailure | undefined;
  /** Unmaps so many of them again. */
  giveMappings(count: number): void;
  /** The descriptors of two connected unix sockets of datagrams. */
  datagramPair(): [number, number] | NativeFailure;
  /** The positive errno of a second UFFDIO_API on one descriptor. */
  secondHandshake(): number;
  /** Moves the memory to other addresses and back: mremap(2), twice. */
  remap(view: Uint8Array, pageSize: number): NativeFailure | undefined;
  /** madvise(2) behind this package's back, with this advice. */
  giveBack(view: Uint8Array, advice: number): NativeFailure | undefined;
  /** Installs a SIGBUS handler that counts and maps zeros over the page. */
  countSigbus(): void;
  sigbusCount(): number;
  /** In this thread. */
  blockSigbus(): void;
  /** Of memory that a tracker has: collects what was written and copies it to the same offsets. The bytes. */
  collectAndCopy(view: Uint8Array, to: Uint8Array): number | NativeFailure;
  /** MADV_DONTNEED behind the back of this package. */
  dropPages(view: Uint8Array): NativeFailure | undefined;
  /** MADV_COLLAPSE. */
  collapse(view: Uint8Array): NativeFailure | undefined;
  /** The part that transparent huge pages, or those of hugetlb, map. */
  hugeBytes(view: Uint8Array): number | NativeFailure;
}

export interface NativeBinding {
  pageSize: number;
  /** In bytes, of the huge pages one gets without asking for a size. */
  hugetlbPageSize(): number | NativeFailure;
  regularFileBytes(path: string): number | NativeFailure;
  allocate(request: NativeAllocation): NativeRegion | NativeFailure;
  /** The memory of our own that these bytes lie in, whichever object they are of. */
  memoryAt(view: Uint8Array): NativeMemory | undefined;
  /** Another mapping of the same memory. */
  isAliased(mapping: NativeToken): boolean;
  /** Neither a file's nor one that can be mapped again. */
  isPrivate(mapping: NativeToken): boolean;
  alias(mapping: NativeToken, over: Uint8Array | undefined): NativeRegion | NativeFailure;
  /** The name under which the mapping is found in every thread of this process. */
  keyOf(mapping: NativeToken): string | NativeFailure;
  /** Undefined when there is no such region, or it does not lie in this shared buffer. */
  attach(key: string, over: Uint8Array | undefined): NativeRegion | undefined;
  discard(
    view: Uint8Array,
    offset: number,
    length: number,
    mapping: NativeToken | undefined,
  ): NativeFailure | undefined;
  /** Pages that a lazy restore has lost are zeros then; EHWPOISON where they reach over an edge. */
  emptyLostPages(view: Uint8Array): NativeFailure | undefined;
  detach(buffer: ArrayBuffer, mapping: NativeToken): void;
  /** Closes a region in a shared buffer, which stays. */
  leave(mapping: NativeToken): void;
  /** `[offset, length, …]` of the pages, counted from the view's start, that hold anything but zeros. */
  nonZeroPages(view: Uint8Array, pageSize: number): Float64Array;
  /**
   * The same of memory that begins with a page and is zero where it has none, which is then not read.
   * `backing`: the size of the pages behind it.
   */
  nonZeroPagesThatExist(view: Uint8Array, backing: number): Float64Array;
  /**
   * Has a thread of libuv's pool begin with the SHA-256 of each page; undefined where OpenSSL is missing. `pages` and
   * `digests` are left alone until they are made.
   */
  beginDigests(pages: Uint8Array, pageSize: number, digests: Uint8Array): NativeToken | undefined;
  /** Once: makes those that nobody has begun. A promise where another thread is still at one. */
  endDigests(begun: NativeToken): Promise<void> | undefined;
  /** Where in a page the bytes begin; `pageSize` is the machine's unless it is given. */
  addressInPage(view: Uint8Array, pageSize?: number): number;
  /** Whether KSM may merge all memory of this process (PR_SET_MEMORY_MERGE). */
  isMemoryMerged(): boolean;
  /** Whether a userfaultfd fills missing pages of these bytes from a source. */
  hasSource(view: Uint8Array, offset: number, length: number): boolean;
  /** Whether a thread that reads these bytes may have to wait for some userfaultfd. */
  mayFault(view: Uint8Array): boolean;
  probe(): NativeProbe;
  /** For the end of the process: nothing can be opened afterwards. */
  releaseAll(): void;
  /** True once a process for each addon file that is loaded. */
  claimExit(): boolean;
  /** True once in the life of the process for each name. */
  isFirst(name: string): boolean;
  Userfaultfd: new () => NativeUserfaultfd;
  dirtyTracker: DirtyTrackerCalls;
  Snapshot: {
    new (): NativeSnapshot;
    /** Our SIGBUS handler in front of whatever is there. */
    reinstallSigbusHandler(): void;
  };
  LazyLoad: new () => NativeLazyLoad;
  SnapshotHistory: new () => NativeSnapshotHistory;
  testing?: NativeTesting;
}

export function isFailure(result: unknown): result is NativeFailure {
  return typeof result === 'object' && result !== null && 'errno' in result && 'syscall' in result;
}

/** This file is dist/lib/binding.js. */
const PACKAGE_ROOT = path.join(__dirname, '..', '..');

let loaded: NativeBinding | undefined;

/** Loads the addon when it is first needed: importing the package never throws, on any platform. */
export function binding(): NativeBinding {
  loaded ??= load();
  return loaded;
}

function load(): NativeBinding {
  if (process.platform !== 'linux') {
    throw new UffdError(`userfaultfd is a Linux system call; this is ${process.platform}`, {
      code: 'ERR_UFFD_NOT_LINUX',
      hint: 'Run on Linux; capabilities() tells what a machine offers without throwing.',
    });
  }
  const { isMainThread } = process.getBuiltinModule('node:worker_threads');
  const name = process.env['UFFD_TEST_ADDON'] === '1' ? 'userfaultfd_test' : 'userfaultfd';
  let native: NativeBinding;
  try {
    // Told where the package is, `bindings` does not read it from a stack trace: frozen intrinsics have none.
    native = loadBindings({ bindings: name, module_root: PACKAGE_ROOT }) as NativeBinding;
  } catch (cause) {
    throw addonError(name, cause);
  }
  // process.exit() in the main thread runs no native clean-up hook, and it waits for Workers that may
  // sleep in a fault; a listener does run, and at once (test 40, A1). Where this one does not, or there is
  // none, the watchdog takes most of a second to notice. One for each addon, however often this module is
  // loaded (test runners load it many times; two copies of the package have an addon each).
  if (isMainThread && native.claimExit()) process.on('exit', () => native.releaseAll());
  return native;
}

function addonError(name: string, cause: unknown): UffdError {
  // `bindings` lists where it looked when it found no file; anything else is why a file did not load.
  const missing = typeof cause === 'object' && cause !== null && 'tries' in cause;
  const how =
    'Build it with "npm rebuild userfaultfd" (in this package\'s own checkout: "npm run build"); that needs g++, make and python3';
  const message = (cause as Error).message.replace(/\.$/, '');
  const code = (cause as NodeJS.ErrnoException).code;
  const lead = `The native addon ${name}.node`;
  if (code === 'ERR_DLOPEN_DISABLED') {
    const hint =
      'Run Node.js without --no-addons; under --permission (--experimental-permission) also with --allow-addons.';
    return new UffdError(
      `${lead} may not be loaded: this process was started with --no-addons, or with --permission and without --allow-addons. ${hint}`,
      { code: 'ERR_UFFD_ADDON_DISABLED', hint },
      { cause },
    );
  }
  if (/too many open files/i.test(message)) {
    const hint = shortageHint('EMFILE');
    return new UffdError(
      `${lead} could not be loaded: ${message}. ${hint}`,
      { code: 'EMFILE', hint },
      { cause },
    );
  }
  return new UffdError(
    `${lead} ${missing ? 'is not there' : `could not be loaded: ${message}`}. ${how}`,
    { code: 'ERR_UFFD_ADDON_MISSING', hint: 'npm rebuild userfaultfd' },
    { cause },
  );
}
