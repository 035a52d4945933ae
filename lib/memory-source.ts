// Existing memory that is used in place: told from everything else, and where its bytes are now.

import { types } from 'node:util';
import { detachedError } from './errors.js';

/** A `WebAssembly.Memory`, plain or shared; told by its shape so that these types need no DOM library. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
  grow(delta: number): number;
}
/** Memory that exists already and is used in place. */
export type MemorySource = WasmMemory | ArrayBuffer | SharedArrayBuffer | ArrayBufferView;

// The intrinsic getters: a subclass or an own property may say anything, and run code in between.
function intrinsic(prototype: object, name: string): (object: object) => unknown {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- it is bound below
  const getter = Object.getOwnPropertyDescriptor(prototype, name)?.get;
  return getter === undefined ? () => undefined : Function.prototype.call.bind(getter);
}
const TypedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object;
// Node.js without a JIT has no WebAssembly.
const memoryBuffer =
  typeof WebAssembly === 'undefined' ? () => undefined : intrinsic(WebAssembly.Memory.prototype, 'buffer');
const arrayBufferLength = intrinsic(ArrayBuffer.prototype, 'byteLength');
const sharedBufferLength = intrinsic(SharedArrayBuffer.prototype, 'byteLength');
// Undefined where Node.js has no such buffers.
const isResizable = intrinsic(ArrayBuffer.prototype, 'resizable');
const isGrowable = intrinsic(SharedArrayBuffer.prototype, 'growable');
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

/** @internal A real one, of whatever realm: what merely has the prototype has no buffer. */
export function isWasmMemory(value: unknown): value is WasmMemory {
  if (typeof value !== 'object' || value === null) return false;
  // What is something else for sure: the error below costs fifty microseconds.
  if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) return false;
  try {
    return types.isAnyArrayBuffer(memoryBuffer(value));
  } catch {
    return false;
  }
}

/** @internal */
export function isMemorySource(value: unknown): value is MemorySource {
  return isWasmMemory(value) || types.isAnyArrayBuffer(value) || ArrayBuffer.isView(value);
}

/** @internal */
export type Extent = [buffer: ArrayBuffer | SharedArrayBuffer, offset: number, length: number];

/** @internal Where the bytes are now. */
export function extentOf(source: MemorySource): Extent {
  if (ArrayBuffer.isView(source)) {
    const get = types.isDataView(source) ? dataView : typedArray;
    const buffer = get.buffer(source) as ArrayBuffer | SharedArrayBuffer;
    if (get === typedArray) {
      const length = typedArray.length(source) as number;
      // One that is detached or out of bounds has none.
      if (length > 0) return [buffer, typedArray.offset(source) as number, length];
    }
    if (isDetached(buffer) || isOutOfBounds(source)) throw detachedError();
    return [buffer, get.offset(source) as number, get.length(source) as number];
  }
  const buffer = isWasmMemory(source) ? (memoryBuffer(source) as ArrayBuffer | SharedArrayBuffer) : source;
  if (isDetached(buffer)) throw detachedError();
  const length = types.isSharedArrayBuffer(buffer) ? sharedBufferLength(buffer) : arrayBufferLength(buffer);
  return [buffer, 0, length as number];
}

/** @internal Where they are until their buffer is detached; undefined of what may grow or shrink. */
export function fixedExtentOf(source: MemorySource): Extent | undefined {
  if (isWasmMemory(source)) return undefined;
  const extent = extentOf(source);
  const [buffer] = extent;
  const mayChange = types.isSharedArrayBuffer(buffer) ? isGrowable(buffer) : isResizable(buffer);
  return mayChange ? undefined : extent;
}

/** @internal In bytes; 0 when its buffer is detached. */
export function lengthOf(view: Uint8Array): number {
  return typedArray.length(view) as number;
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
