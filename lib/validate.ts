// Checks of arguments, in one voice.

import { illegalConstructor, invalidType, invalidValue, outOfRange } from './errors.js';

/** Byte offset and length inside a memory. */
export interface ByteRange {
  offset: number;
  length: number;
}

/** An integer from `min` to `max`. */
export function checkInteger(
  name: string,
  value: unknown,
  min: number,
  max: number,
): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value);
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value);
  if (value < min || value > max) {
    const upper = max === Number.MAX_SAFE_INTEGER ? '2 ** 53 - 1' : String(max);
    throw outOfRange(name, `>= ${min} and <= ${upper}`, value);
  }
}

/** `offset` and `length` in bytes, both inside `byteLength`; a length of zero is a mistake. */
export function checkByteRange(range: unknown, byteLength: number): ByteRange {
  const { offset = 0, length } = checkOptions('range', range, ['offset', 'length']) as Partial<ByteRange>;
  checkInteger('offset', offset, 0, Number.MAX_SAFE_INTEGER);
  if (byteLength === 0) throw outOfRange('offset', 'inside the memory, which has no bytes', offset);
  if (offset >= byteLength) throw outOfRange('offset', `< ${byteLength}, the size of the memory`, offset);
  const bytes = length === undefined ? byteLength - offset : length;
  checkInteger('length', bytes, 1, Number.MAX_SAFE_INTEGER);
  if (bytes > byteLength - offset) {
    throw outOfRange('length', `<= ${byteLength - offset}, what the memory has after the offset`, bytes);
  }
  return { offset, length: bytes };
}

/** The same, of whole pages. */
export function checkPageRange(range: unknown, byteLength: number, pageSize: number): ByteRange {
  const checked = checkByteRange(range, byteLength);
  checkWholePages('offset', checked.offset, pageSize);
  checkWholePages('length', checked.length, pageSize);
  return checked;
}

export function checkWholePages(name: string, bytes: number, pageSize: number): void {
  if (bytes % pageSize !== 0) throw outOfRange(name, `a multiple of the page size, ${pageSize}`, bytes);
}

/**
 * An options object whose every name is known. Its own properties only, each read once: what a program
 * put on Object.prototype is not meant for us.
 */
export function checkOptions(
  name: string,
  value: unknown,
  known: readonly string[],
): Record<string, unknown> {
  const options = Object.create(null) as Record<string, unknown>;
  if (value === undefined) return options;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidType(name, 'an object', value);
  }
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) {
      throw invalidValue(name, `has no property "${key}"; known: ${known.join(', ')}`, value);
    }
    options[key] = (value as Record<string, unknown>)[key];
  }
  return options;
}

/** One of a closed set of strings. */
export function checkOneOf<T extends string>(name: string, value: unknown, known: readonly T[]): T {
  if (typeof value !== 'string') throw invalidType(name, `one of ${known.join(', ')}`, value);
  if (!(known as readonly string[]).includes(value)) {
    throw invalidValue(name, `must be one of ${known.join(', ')}`, value);
  }
  return value as T;
}

export function checkFlag(name: string, value: unknown, byDefault: boolean): boolean {
  if (value === undefined) return byDefault;
  if (typeof value !== 'boolean') throw invalidType(name, 'of type boolean', value);
  return value;
}

export function checkSignal(value: unknown): AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw invalidType('options.signal', 'an AbortSignal', value);
}

/** A function to be told of progress, or none. */
export function checkProgress(value: unknown): void {
  if (value === undefined || typeof value === 'function') return;
  throw invalidType('options.onProgress', 'a function', value);
}

/** The name of a file. */
export function checkPath(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value);
  if (value === '' || value.includes('\0')) throw invalidValue(name, 'must be the name of a file', value);
}

/** What the private constructors of this package ask for: JavaScript has no private constructors. */
export const CONSTRUCT = Symbol('construct');

export function checkConstruct(name: string, token: unknown): void {
  if (token !== CONSTRUCT) throw illegalConstructor(name);
}
