// Memory as the rest of the package sees it: bytes at a place that may grow, shrink or go away.

import { inspect, types } from 'node:util';
import { allocate, BACKINGS, carrierBytes, type AllocateOptions, type Backing } from './allocation.js';
import { binding, isFailure, type NativeMemory, type NativeRegion, type NativeToken } from './binding.js';
import { closedError, errnoName, invalidType, invalidValue, systemError } from './errors.js';
import {
  extentOf,
  fixedExtentOf,
  isMemorySource,
  isWasmMemory,
  lengthOf,
  type Extent,
  type MemorySource,
} from './memory-source.js';
import { attachHandle, makeHandle, type RegionHandle } from './region-handle.js';
import { sharedCarrier } from './shared-carrier.js';
import { checkConstruct, checkPageRange, CONSTRUCT } from './validate.js';

export type { AllocateOptions, Backing } from './allocation.js';
export type { MemorySource, WasmMemory } from './memory-source.js';
/** What trackers and snapshots take. */
export type Trackable = Region | MemorySource;

/** Who made the memory: this package (`owned`), WebAssembly (`wasm`), or somebody else (`foreign`). */
export type RegionKind = 'owned' | 'wasm' | 'foreign';

/** @internal Whoever has armed or registered a region and must let go before it closes. */
export interface RegionUser {
  regionClosing(region: Region): void;
}

/** Of a region of our own. */
interface Owned {
  readonly backing: Backing;
  readonly pageSize: number;
  /** Let go of at close. */
  mapping: NativeToken | undefined;
}

/** What was found out about buffers; it holds for as long as they live, and for any view of one. */
const ownMemory = new WeakMap<ArrayBufferLike, NativeMemory | 'none'>();

/**
 * The memory of our own that these bytes lie in. Told by their address: a buffer that was posted or
 * cloned is another object (test 50, B7).
 */
function ownMemoryOf(view: Uint8Array): NativeMemory | undefined {
  // Nowhere yet, as of a WebAssembly.Memory that may grow.
  if (view.byteLength === 0) return undefined;
  let own = ownMemory.get(view.buffer);
  if (own === undefined) {
    own = binding().memoryAt(new Uint8Array(view.buffer)) ?? 'none';
    ownMemory.set(view.buffer, own);
  }
  return own === 'none' ? undefined : own;
}

interface RegionInternals {
  readonly mapping: NativeToken | undefined;
  /** The same, also where it lies in a shared buffer: valid while `keepAlive` is held. */
  readonly ownMapping: NativeToken | undefined;
  /** What to hold so that the memory stays. */
  readonly keepAlive: object;
  /** Announces a user; the result takes it back. Weakly held: a region keeps no tracker alive. */
  readonly attach: (user: RegionUser) => () => void;
  /** Whether no other data but ours, or WebAssembly's, lies in its pages. */
  readonly hasOwnPages: boolean;
  /** The mapping that its bytes lie in, of whichever region. */
  readonly liesIn: NativeToken | undefined;
}

let internalsOf: (region: Region) => RegionInternals;

/** @internal */
export function regionInternals(region: Region): RegionInternals {
  return internalsOf(region);
}

/**
 * @internal Faults that somebody waits for are served page by page: no other data may lie in a page. They
 * are raised in one mapping, and a page of a file would be missing only until the file was read.
 */
export function isProtectable(region: Region): boolean {
  if (region.kind === 'foreign' || region.backing === 'file') return false;
  const { ownMapping } = regionInternals(region);
  return ownMapping === undefined || !binding().isAliased(ownMapping);
}

/** @internal */
export function toRegion(name: string, memory: unknown): Region {
  if (Region.isRegion(memory)) return memory;
  if (!isMemorySource(memory)) {
    throw invalidType(
      name,
      'a Region, WebAssembly.Memory, ArrayBuffer, SharedArrayBuffer or a view of one',
      memory,
    );
  }
  return Region.from(memory);
}

/**
 * Page-aligned memory of our own, or existing memory in place.
 *
 * `buffer`, `bytes` and `byteLength` are read anew at each access: a WebAssembly.Memory that grew has
 * a new buffer. Using a detached memory throws `ERR_UFFD_DETACHED`.
 */
export class Region implements Disposable {
  readonly kind: RegionKind;
  /** Let go of at close: the addresses are free when nobody holds the buffer. */
  #source: MemorySource | undefined;
  readonly #owned: Owned | undefined;
  readonly #users = new Set<WeakRef<RegionUser>>();
  #fixedExtent: Extent | undefined;
  #view: Uint8Array | undefined;
  #closed = false;

  static {
    internalsOf = (region) => ({
      // V8 keeps what a shared buffer lies in, as it does with Wasm memory: `keepAlive` does it then.
      mapping: types.isArrayBuffer(region.#source) ? region.#owned?.mapping : undefined,
      ownMapping: region.#owned?.mapping,
      keepAlive: region.#source!,
      attach: (user) => region.#attach(user),
      hasOwnPages: region.kind !== 'foreign' || ownMemoryOf(region.bytes) !== undefined,
      liesIn: region.kind === 'wasm' ? undefined : ownMemoryOf(region.bytes)?.mapping,
    });
  }

  private constructor(token: typeof CONSTRUCT, kind: RegionKind, source: MemorySource, owned?: Owned) {
    checkConstruct('Region', token);
    this.kind = kind;
    this.#source = source;
    this.#owned = owned;
    this.#fixedExtent = fixedExtentOf(source);
  }

  /**
   * New memory, page-aligned and zero-filled (that of a file has its bytes). A forked child does not
   * get it (MADV_DONTFORK), KSM does not merge it (MADV_UNMERGEABLE): madvise(2). Released by
   * `close()`, or by the garbage collector.
   * @throws {RangeError} `ERR_OUT_OF_RANGE` when the size cannot be.
   * @throws {UffdError} `ENOMEM`, for `hugetlb` when too few huge pages are free; `EMFILE`.
   */
  static allocate(options: AllocateOptions): Region {
    const { native, over } = allocate(options);
    return Region.#own(native, over);
  }

  /**
   * The region that `handle` names, in this thread: the same bytes at the same addresses, with a life
   * of its own. The memory stays until the last of its regions is closed. A tracker or userfaultfd of
   * any of these threads sees all of them.
   * @throws {UffdError} `ERR_UFFD_HANDLE` when it names no open region of this process.
   */
  static attach(handle: RegionHandle): Region {
    const { native, view } = attachHandle(handle);
    return Region.#own(native, view);
  }

  static #own(native: NativeRegion, over: Uint8Array | undefined): Region {
    const source = native.buffer ?? new Uint8Array(over!.buffer, native.offset, native.bytes);
    const { mapping, pageSize } = native;
    ownMemory.set(source instanceof Uint8Array ? source.buffer : source, { pageSize, mapping });
    return new Region(CONSTRUCT, 'owned', source, { backing: BACKINGS[native.backing]!, pageSize, mapping });
  }

  /**
   * Existing memory, in place: nothing is copied. A view stands for its own bytes only.
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`, or `ERR_INVALID_ARG_VALUE` for memory without bytes.
   * @throws {UffdError} `ERR_UFFD_DETACHED`.
   */
  static from(memory: MemorySource): Region {
    if (!isMemorySource(memory)) {
      throw invalidType(
        'memory',
        'a WebAssembly.Memory, ArrayBuffer, SharedArrayBuffer or a view of one',
        memory,
      );
    }
    const kind = isWasmMemory(memory) ? 'wasm' : 'foreign';
    const region = new Region(CONSTRUCT, kind, memory);
    // A Wasm memory without pages may still grow.
    if (region.byteLength === 0 && kind === 'foreign') throw invalidValue('memory', 'has no bytes', memory);
    return region;
  }

  static isRegion(value: unknown): value is Region {
    return typeof value === 'object' && value !== null && #source in value;
  }

  get buffer(): ArrayBuffer | SharedArrayBuffer {
    return this.#currentView().buffer;
  }

  /** All bytes of the region. After `close()` of an owned region every view of it has length 0. */
  get bytes(): Uint8Array {
    return this.#currentView();
  }

  get byteLength(): number {
    return this.#closed ? 0 : this.#currentView().byteLength;
  }

  /** In bytes: of the pages that back this memory, 2 MiB and the like for `hugetlb`. */
  get pageSize(): number {
    if (this.#owned !== undefined) return this.#owned.pageSize;
    if (this.kind === 'wasm' || this.#closed) return binding().pageSize;
    const own = ownMemoryOf(this.#view ?? this.#currentView());
    return own?.pageSize ?? binding().pageSize;
  }

  /** What the pages are; undefined for memory of others. */
  get backing(): Backing | undefined {
    return this.#owned?.backing;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * A second mapping of the same memory in this process, at another address and with a life of its
   * own: what is written through one is read through the other. Memory of a shared `memfd` or
   * `hugetlb` mapping only. A userfaultfd and a snapshot see the accesses through their own mapping only.
   */
  alias(): Region {
    const view = this.#currentView();
    const mapping = this.#owned?.mapping;
    const over = types.isSharedArrayBuffer(view.buffer)
      ? sharedCarrier(carrierBytes(view.byteLength, this.pageSize))
      : undefined;
    const native = mapping === undefined ? undefined : binding().alias(mapping, over);
    if (native === undefined || (isFailure(native) && errnoName(native.errno) === 'EINVAL')) {
      throw invalidValue('region', "must be a shared mapping of the backing 'memfd' or 'hugetlb'", this);
    }
    if (isFailure(native)) throw systemError(native);
    return Region.#own(native, over);
  }

  /** For `Region.attach` in a Worker of this process; can be posted. Memory of our own only. */
  get handle(): RegionHandle {
    const { buffer } = this.#currentView();
    if (this.#owned?.mapping === undefined) {
      throw invalidValue('region', 'must be allocated by this package to have a handle', this);
    }
    return makeHandle(this.#owned.mapping, types.isSharedArrayBuffer(buffer) ? buffer : undefined);
  }

  /**
   * Gives whole pages back to the kernel: they read as zero and count as written; those of a `file`
   * read as the file again. In shared memory that holds for its aliases too. `offset` and `length` are
   * bytes, multiples of the page size. Owned and Wasm memory only. madvise(2): MADV_DONTNEED for
   * private memory, MADV_REMOVE for shared.
   */
  discard(offset?: number, length?: number): void {
    const view = this.#currentView();
    if (this.kind === 'foreign') {
      throw invalidValue(
        'region',
        'must be allocated by this package or a WebAssembly.Memory to discard pages',
        this,
      );
    }
    const range = checkPageRange(
      { ...(offset === undefined ? {} : { offset }), ...(length === undefined ? {} : { length }) },
      view.byteLength,
      this.pageSize,
    );
    const failure = binding().discard(view, range.offset, range.length, this.#owned?.mapping);
    if (failure !== undefined) throw systemError(failure);
  }

  /**
   * Lets go of the memory: whoever tracks or registered it lets go first, an owned region's buffer is
   * detached, so no view reaches it, and its pages go back to the kernel at once. Its addresses stay
   * taken until the buffer is collected: an `fs.read` under way may still write there. Closing twice
   * is fine.
   */
  close(): void {
    if (this.#closed) return;
    for (const user of [...this.#users]) user.deref()?.regionClosing(this);
    this.#closed = true;
    this.#view = undefined;
    this.#fixedExtent = undefined;
    if (this.#owned?.mapping !== undefined) {
      if (types.isArrayBuffer(this.#source)) binding().detach(this.#source, this.#owned.mapping);
      else binding().leave(this.#owned.mapping);
      this.#owned.mapping = undefined;
    }
    this.#source = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    if (!Region.isRegion(this)) return 'Region {}';
    if (this.#closed) return 'Region { closed }';
    try {
      return `Region { ${this.kind}, ${this.byteLength} bytes }`;
    } catch {
      return `Region { ${this.kind}, detached }`;
    }
  }

  #attach(user: RegionUser): () => void {
    for (const other of this.#users) {
      if (other.deref() === undefined) this.#users.delete(other);
    }
    const reference = new WeakRef(user);
    this.#users.add(reference);
    return () => this.#users.delete(reference);
  }

  /** Every look at a tracked memory begins with this. */
  #extent(): Extent {
    const isThere = this.#view !== undefined && lengthOf(this.#view) > 0;
    return (isThere ? this.#fixedExtent : undefined) ?? extentOf(this.#source!);
  }

  #currentView(): Uint8Array {
    if (this.#closed) throw closedError('region');
    const [buffer, offset, length] = this.#extent();
    if (
      this.#view?.buffer !== buffer ||
      this.#view.byteOffset !== offset ||
      this.#view.byteLength !== length
    ) {
      this.#view = new Uint8Array(buffer, offset, length);
    }
    return this.#view;
  }
}
