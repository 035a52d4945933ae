// SharedArrayBuffers for memory of our own. Node-API makes none over memory that exists, so V8 makes one
// and the pages of the region are mapped over it. Measured on Node.js 20, 22, 24 and 26:
//
// - `new SharedArrayBuffer(n)` lies in malloc's memory, not on a page of its own: no use.
// - The buffer of a shared WebAssembly.Memory begins on a page, and V8 maps and unmaps it as a whole. With
//   `maximum` = `initial` and the Memory itself given to nobody, V8 never touches its pages in between.
// - So does a growable SharedArrayBuffer, which may be larger; but a `new Uint8Array(buffer)` of it follows
//   its length and is 30 to 55 times slower to read. It is for what WebAssembly cannot hold.

import { systemError } from './errors.js';
import type { WasmMemory } from './memory-source.js';

const WASM_PAGE = 65_536;
const LARGEST_WASM = 65_536 * WASM_PAGE;
const ENOMEM = -12;

const GrowableSharedArrayBuffer = SharedArrayBuffer as unknown as new (
  bytes: number,
  options: { maxByteLength: number },
) => SharedArrayBuffer;

/** Sizes of shared buffers are multiples of this. */
export const SHARED_GRANULE = WASM_PAGE;

/** @internal All bytes of a new shared buffer of its own pages, zero-filled. */
export function sharedCarrier(bytes: number): Uint8Array {
  return new Uint8Array(newBuffer(bytes), 0, bytes);
}

function newBuffer(bytes: number): SharedArrayBuffer {
  try {
    if (typeof WebAssembly === 'undefined' || bytes > LARGEST_WASM) {
      return new GrowableSharedArrayBuffer(bytes, { maxByteLength: bytes });
    }
    const pages = bytes / WASM_PAGE;
    const memory: WasmMemory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    return memory.buffer as SharedArrayBuffer;
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw systemError({ errno: ENOMEM, syscall: 'mmap' });
  }
}
