// Memory as the rest of the package sees it: bytes at a place that may grow, shrink or go away.

import { constants } from 'node:buffer';
import { inspect, types } from 'node:util';
import { binding, isFailure, type NativeToken } from './binding.js';
import { closedError, detachedError, invalidType, invalidValue, outOfRange, systemError } from './errors.js';
import {
  checkConstruct,
  checkInteger,
  checkOneOf,
  checkOptions,
  checkPageRange,
  CONSTRUCT,
} from './validate.js';

/** A `WebAssembly.Memory`, plain or shared; told by its shape so that these types need no DOM library. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
  grow(delta: number): number;
}
/** Memory that exists already and is used in place. */
export type MemorySource = WasmMemory | ArrayBuffer | SharedArrayBuffer | ArrayBufferView;
/** What trackers and snapshots take. */
export type Trackable = Region | MemorySource;

/** Who made the memory: this package (`owned`), WebAssembly (`wasm`), or somebody else (`foreign`). */
export type RegionKind = 'owned' | 'wasm' | 'foreign';

export interface AllocateOptions {
  /** Size in bytes, rounded up to whole pages. */
  bytes: number;
  /** `anonymous`: private zero-filled memory. */
  backing?: 'anonymous';
}

/** @internal Whoever has armed or registered a region and must let go before it closes. */
export interface RegionUser {
  regionClosing(region: Region): void;
}

interface RegionInternals {
  readonly mapping: NativeToken | undefined;
  /** What to hold so that the memory stays. */
  readonly keepAlive: object;
  /** Announces a user; the result takes it back. Weakly held: a region keeps no tracker alive. */
  readonly attach: (user: RegionUser) => () => void;
}

let internalsOf: (region: Region) => RegionInternals;

/** @internal */
export function regionInternals(region: Region): RegionInternals {
  return internalsOf(region);
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
  readonly #mapping: NativeToken | undefined;
  readonly #users = new Set<WeakRef<RegionUser>>();
  #view: Uint8Array | undefined;
  #closed = false;

  static {
    internalsOf = (region) => ({
      mapping: region.#mapping,
      keepAlive: region.#source!,
      attach: (user) => region.#attach(user),
    });
  }

  private constructor(
    token: typeof CONSTRUCT,
    kind: RegionKind,
    source: MemorySource,
    mapping?: NativeToken,
  ) {
    checkConstruct('Region', token);
    this.kind = kind;
    this.#source = source;
    this.#mapping = mapping;
  }

  /**
   * New zero-filled memory, page-aligned. A forked child does not get it (MADV_DONTFORK), KSM does not
   * merge it (MADV_UNMERGEABLE): madvise(2). Released by `close()`, or by the garbage collector.
   * @throws {RangeError} `ERR_OUT_OF_RANGE` when the size cannot be.
   * @throws {UffdError} `ENOMEM`.
   */
  static allocate(options: AllocateOptions): Region {
    const { bytes, backing = 'anonymous' } = checkOptions('options', options, ['bytes', 'backing']);
    checkInteger('options.bytes', bytes, 1, Number.MAX_SAFE_INTEGER);
    checkOneOf('options.backing', backing, ['anonymous']);
    const { pageSize } = binding();
    const rounded = Math.ceil(bytes / pageSize) * pageSize;
    if (rounded > constants.MAX_LENGTH) {
      throw outOfRange(
        'options.bytes',
        `<= ${constants.MAX_LENGTH}, the longest buffer of this Node.js`,
        bytes,
      );
    }
    const allocated = binding().allocate(rounded);
    if (isFailure(allocated)) throw systemError(allocated);
    return new Region(CONSTRUCT, 'owned', allocated.buffer, allocated.mapping);
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

  /** In bytes. */
  get pageSize(): number {
    return binding().pageSize;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Gives whole pages back to the kernel (madvise(2), MADV_DONTNEED): they read as zero and count as
   * written. `offset` and `length` are bytes, multiples of the page size. Owned and Wasm memory only.
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
    const failure = binding().discard(view, range.offset, range.length);
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
    if (this.kind === 'owned') binding().detach(this.#source as ArrayBuffer, this.#mapping!);
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

  #currentView(): Uint8Array {
    if (this.#closed) throw closedError('region');
    const [buffer, offset, length] = extentOf(this.#source!);
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

// The intrinsic getters: a subclass or an own property may say anything, and run code in between.
function intrinsic(prototype: object, name: string): (object: object) => unknown {
  return (object) => Reflect.get(prototype, name, object) as unknown;
}
const TypedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object;
// Node.js without a JIT has no WebAssembly.
const memoryBuffer =
  typeof WebAssembly === 'undefined' ? () => undefined : intrinsic(WebAssembly.Memory.prototype, 'buffer');
const arrayBufferLength = intrinsic(ArrayBuffer.prototype, 'byteLength');
const sharedBufferLength = intrinsic(SharedArrayBuffer.prototype, 'byteLength');
const typedArray = {
  buffer: intrinsic(TypedArrayPrototype, 'buffer'),
  offset: intrinsic(TypedArrayPrototype, 'byteOffset'),
  length: intrinsic(TypedArrayPrototype, 'byteLength'),
};
const dataView = {
  buffer: intrinsic(DataView.prototype, 'buffer'),
  offset: intrinsic(DataView.prototype, 'byteOffset'),
  length: intrinsic(DataView.prototype, 'byteLength'),
};

/** A real one, of whatever realm: what merely has the prototype has no buffer. */
function isWasmMemory(value: unknown): value is WasmMemory {
  if (typeof value !== 'object' || value === null) return false;
  // What is something else for sure: the error below costs fifty microseconds.
  if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) return false;
  try {
    return types.isAnyArrayBuffer(memoryBuffer(value));
  } catch {
    return false;
  }
}

function isMemorySource(value: unknown): value is MemorySource {
  return isWasmMemory(value) || types.isAnyArrayBuffer(value) || ArrayBuffer.isView(value);
}

/** @internal Where the bytes are now. */
export function extentOf(
  source: MemorySource,
): [buffer: ArrayBuffer | SharedArrayBuffer, offset: number, length: number] {
  if (ArrayBuffer.isView(source)) {
    const get = types.isDataView(source) ? dataView : typedArray;
    const buffer = get.buffer(source) as ArrayBuffer | SharedArrayBuffer;
    if (isDetached(buffer) || isOutOfBounds(source)) throw detachedError();
    return [buffer, get.offset(source) as number, get.length(source) as number];
  }
  const buffer = isWasmMemory(source) ? (memoryBuffer(source) as ArrayBuffer | SharedArrayBuffer) : source;
  if (isDetached(buffer)) throw detachedError();
  const length = types.isSharedArrayBuffer(buffer) ? sharedBufferLength(buffer) : arrayBufferLength(buffer);
  return [buffer, 0, length as number];
}

/** @internal */
export function isDetached(buffer: ArrayBuffer | SharedArrayBuffer): boolean {
  if (types.isSharedArrayBuffer(buffer)) return false;
  // Told by what every Node.js has: only a detached buffer refuses to be viewed.
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}

/** A view of a resizable buffer that shrank below it: its length reads as 0, or throws. */
function isOutOfBounds(view: ArrayBufferView): boolean {
  try {
    if (types.isDataView(view)) return (dataView.length(view) as number) < 0;
    // Validates the view without reading its memory, which could fault.
    Uint8Array.prototype.keys.call(view as Uint8Array);
    return false;
  } catch {
    return true;
  }
}
