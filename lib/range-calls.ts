// What the calls on a range of registered memory take, for a userfaultfd and for that of a child.

import { asBytes, checkSource } from './bytes.js';
import { invalidType, invalidValue } from './errors.js';
import { Region } from './region.js';
import { checkFlag, checkInteger, checkOptions, checkWholePages } from './validate.js';

/** UFFDIO_WRITEPROTECT_MODE_*. */
export const WRITEPROTECT_WP = 1;
const WRITEPROTECT_DONTWAKE = 2;
/** The same for COPY, ZEROPAGE, CONTINUE, MOVE and POISON. */
const DONTWAKE = 1;
/** Of COPY and CONTINUE. */
const FILL_WP = 2;
const MOVE_ALLOW_SRC_HOLES = 2;

export interface CopyOptions {
  /** Arm the pages in the same step (UFFDIO_COPY_MODE_WP). */
  writeProtect?: boolean;
  /** Wake the threads that wait for them. Default true. */
  wake?: boolean;
}

export interface MoveOptions {
  /** Pages that the source does not have are left out instead of failing. */
  allowHoles?: boolean;
  /** Wake the threads that wait for them. Default true. */
  wake?: boolean;
}

export interface WakeOption {
  /** Default true. */
  wake?: boolean;
}

/** @internal */
export function checkRegion(region: unknown, name = 'region'): Region {
  if (!Region.isRegion(region)) throw invalidType(name, 'a Region', region);
  return region;
}

/** @internal */
export function wakeMode(options: unknown): number {
  const { wake } = checkOptions('options', options, ['wake']);
  return checkFlag('options.wake', wake, true) ? 0 : DONTWAKE;
}

/** @internal */
export function unprotectMode(options: unknown): number {
  return wakeMode(options) === 0 ? 0 : WRITEPROTECT_DONTWAKE;
}

/** @internal Of COPY and CONTINUE. */
export function fillMode(options: unknown): number {
  const given = checkOptions('options', options, ['writeProtect', 'wake']);
  const armed = checkFlag('options.writeProtect', given['writeProtect'], false);
  return (armed ? FILL_WP : 0) | (checkFlag('options.wake', given['wake'], true) ? 0 : DONTWAKE);
}

/** @internal Whether it arms what it fills. */
export function arms(mode: number): boolean {
  return (mode & FILL_WP) !== 0;
}

/** @internal */
export function moveMode(options: unknown): number {
  const given = checkOptions('options', options, ['allowHoles', 'wake']);
  const allowHoles = checkFlag('options.allowHoles', given['allowHoles'], false);
  return (
    (allowHoles ? MOVE_ALLOW_SRC_HOLES : 0) | (checkFlag('options.wake', given['wake'], true) ? 0 : DONTWAKE)
  );
}

/** @internal The bytes are whole pages of the region, and can be read without a fault. */
export function copyRequest(
  region: unknown,
  offset: unknown,
  bytes: unknown,
  options: unknown,
): { source: Uint8Array; mode: number } {
  checkInteger('offset', offset, 0, Number.MAX_SAFE_INTEGER);
  const source = asBytes(bytes);
  if (source.byteLength === 0) throw invalidValue('bytes', 'must not be empty', bytes);
  checkWholePages('bytes.byteLength', source.byteLength, checkRegion(region).pageSize);
  const mode = fillMode(options);
  checkSource(source);
  return { source, mode };
}
