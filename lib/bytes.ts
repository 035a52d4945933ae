// Bytes that a caller hands over.

import { types } from 'node:util';
import { binding } from './binding.js';
import { invalidType, sourceRegistered } from './errors.js';
import { extentOf } from './memory-source.js';

/** The bytes of any buffer or view, in place. */
export function asBytes(bytes: unknown): Uint8Array {
  if (!ArrayBuffer.isView(bytes) && !types.isAnyArrayBuffer(bytes)) {
    throw invalidType('bytes', 'an ArrayBuffer, SharedArrayBuffer or a view of one', bytes);
  }
  // Not through its properties, which may be overridden, nor as it was made: it may lie outside now.
  return new Uint8Array(...extentOf(bytes));
}

/** Throws when reading these bytes could itself wait for a fault to be ended (test 32, D6). */
export function checkSource(bytes: Uint8Array): void {
  if (binding().mayFault(bytes)) throw sourceRegistered();
}
