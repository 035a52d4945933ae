// Bytes that a caller hands over.

import { types } from 'node:util';
import { binding } from './binding.js';
import { detachedError, invalidType, sourceRegistered } from './errors.js';
import { isDetached } from './memory-source.js';

/** The bytes of any buffer or view, in place. */
export function asBytes(bytes: unknown): Uint8Array {
  if (!ArrayBuffer.isView(bytes) && !types.isAnyArrayBuffer(bytes)) {
    throw invalidType('bytes', 'an ArrayBuffer, SharedArrayBuffer or a view of one', bytes);
  }
  if (isDetached(ArrayBuffer.isView(bytes) ? bytes.buffer : bytes)) throw detachedError();
  if (bytes instanceof Uint8Array) return bytes;
  return ArrayBuffer.isView(bytes)
    ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    : new Uint8Array(bytes);
}

/** Throws when reading these bytes could itself wait for a fault to be ended (test 32, D6). */
export function checkSource(bytes: Uint8Array): void {
  if (binding().mayFault(bytes)) throw sourceRegistered();
}
