// New memory of our own: what may be asked for, and the pages that come of it.

import { constants } from 'node:buffer';
import { binding, isFailure, type NativeRegion } from './binding.js';
import {
  errnoName,
  invalidType,
  invalidValue,
  outOfRange,
  shortageHint,
  systemError,
  type NativeFailure,
  type UffdError,
} from './errors.js';
import { hugePages as systemHugePages } from './huge-pages.js';
import { SHARED_GRANULE, sharedCarrier } from './shared-carrier.js';
import { checkFlag, checkInteger, checkOneOf, checkOptions, checkWholePages } from './validate.js';

/** In the order of Backing in native/core/mapping.h. */
export const BACKINGS = ['anonymous', 'memfd', 'hugetlb', 'file'] as const;
/** In the order of HugePageAdvice there, after "no advice". */
const HUGE_PAGES = ['never', 'advise'] as const;
const MAPPINGS = ['private', 'shared'] as const;

/**
 * What the pages are. `anonymous`: ordinary memory. `memfd`: shared memory, which other mappings may
 * show too. `hugetlb`: huge pages that were reserved (vm.nr_hugepages). `file`: a copy of a file's
 * bytes, read when they are touched.
 */
export type Backing = (typeof BACKINGS)[number];

interface AllocateAnyOptions {
  /**
   * `region.buffer` is a SharedArrayBuffer, which Workers can have; `anonymous` and `memfd` memory is then
   * rounded up to whole 64 KiB. For `hugetlb`, `file` and `hugePages: 'advise'` that buffer is longer than
   * the region: `region.bytes` is where it lies. Default false.
   */
  shared?: boolean;
}

export interface AllocateMemoryOptions extends AllocateAnyOptions {
  /** Size in bytes, rounded up to whole pages of the backing. */
  bytes: number;
  /** Default `'anonymous'`. */
  backing?: Exclude<Backing, 'file'>;
  /**
   * MAP_PRIVATE or MAP_SHARED; only a shared one can have an alias. Default: `'shared'` for `memfd` and
   * `hugetlb`, `'private'` for the others, which cannot be shared.
   */
  mapping?: 'private' | 'shared';
  /** MADV_NOHUGEPAGE or MADV_HUGEPAGE for `anonymous` and `memfd`. Default: as the system is set up. */
  hugePages?: 'never' | 'advise';
  /** For `hugetlb`, in bytes: one of `capabilities().hugePages.sizes`. Default: the system's default. */
  hugePageSize?: number;
}

export interface AllocateFileOptions extends AllocateAnyOptions {
  backing: 'file';
  /** A regular file. Writes to the memory do not reach it. */
  path: string;
  /** Where in the file to begin, in bytes, whole pages. Default 0. */
  fileOffset?: number;
  /** Size in bytes, rounded up to whole pages. Default: to the end of the file. */
  bytes?: number;
  mapping?: 'private';
}

export type AllocateOptions = AllocateMemoryOptions | AllocateFileOptions;

/** @internal */
export interface Allocated {
  native: NativeRegion;
  /** The shared buffer it lies in, all of it. */
  over: Uint8Array | undefined;
}

const KNOWN = ['bytes', 'backing', 'mapping', 'hugePages', 'hugePageSize', 'shared', 'path', 'fileOffset'];
/** Which backings an option is for. */
const MEANT_FOR: Readonly<Record<string, readonly Backing[]>> = {
  hugePages: ['anonymous', 'memfd'],
  hugePageSize: ['hugetlb'],
  path: ['file'],
  fileOffset: ['file'],
};

/** @internal */
export function allocate(options: unknown): Allocated {
  const given = checkOptions('options', options, KNOWN);
  const backing = checkBacking(given);
  const mapping = checkMapping(given['mapping'], backing);
  const pageSize = backing === 'hugetlb' ? hugetlbPageSize(given['hugePageSize']) : binding().pageSize;
  const { hugePages } = given;
  if (hugePages !== undefined) checkOneOf('options.hugePages', hugePages, HUGE_PAGES);
  const file = backing === 'file' ? checkFile(given) : { path: '', fileOffset: 0, left: undefined };
  const shared = checkFlag('options.shared', given['shared'], false);
  const asked = given['bytes'] === undefined && file.left !== undefined ? file.left : given['bytes'];
  // A shared buffer is its region where that can be: not behind the end of a file.
  const unit = shared && file.left === undefined ? Math.max(pageSize, SHARED_GRANULE) : pageSize;
  const bytes = wholePages(asked, unit);
  if (file.left !== undefined) checkFileHas(bytes, asked, pageSize, file.left);
  const alignment = hugePages === 'advise' ? (systemHugePages().transparentSize ?? 0) : pageSize;
  const over = shared ? sharedCarrier(carrierBytes(bytes, alignment)) : undefined;
  const native = binding().allocate({
    backing: BACKINGS.indexOf(backing),
    bytes,
    pageSize,
    mapShared: mapping === 'shared',
    advice: 1 + HUGE_PAGES.indexOf(hugePages as (typeof HUGE_PAGES)[number]),
    path: file.path,
    fileOffset: file.fileOffset,
    over,
  });
  if (isFailure(native)) throw allocationError(native, given['path']);
  return { native, over };
}

/** @internal Room for `bytes` from an address that is a multiple of `alignment`. */
export function carrierBytes(bytes: number, alignment: number): number {
  const whole = Math.ceil(bytes / SHARED_GRANULE) * SHARED_GRANULE;
  return alignment > SHARED_GRANULE ? whole + alignment : whole;
}

function checkBacking(given: Record<string, unknown>): Backing {
  const { backing = 'anonymous' } = given;
  const checked = checkOneOf('options.backing', backing, BACKINGS);
  for (const [name, backings] of Object.entries(MEANT_FOR)) {
    if (given[name] === undefined || backings.includes(checked)) continue;
    throw invalidValue(`options.${name}`, `is for the backing ${backings.join(' or ')}`, given[name]);
  }
  return checked;
}

function checkMapping(mapping: unknown, backing: Backing): 'private' | 'shared' {
  const mayShare = backing === 'memfd' || backing === 'hugetlb';
  if (mapping === undefined) return mayShare ? 'shared' : 'private';
  const checked = checkOneOf('options.mapping', mapping, MAPPINGS);
  if (checked === 'shared' && !mayShare) {
    throw invalidValue('options.mapping', `must be 'private' for the backing ${backing}`, mapping);
  }
  return checked;
}

function hugetlbPageSize(asked: unknown): number {
  if (asked === undefined) {
    const size = binding().hugetlbPageSize();
    if (isFailure(size)) throw systemError(size);
    return size;
  }
  checkInteger('options.hugePageSize', asked, 1, Number.MAX_SAFE_INTEGER);
  const { sizes } = systemHugePages();
  if (!sizes.includes(asked)) {
    throw outOfRange('options.hugePageSize', `one of ${sizes.join(', ')}, the sizes of this system`, asked);
  }
  return asked;
}

/** `left`: the bytes of the file from there on. */
function checkFile(given: Record<string, unknown>): { path: string; fileOffset: number; left: number } {
  const { path, fileOffset = 0 } = given;
  if (typeof path !== 'string') throw invalidType('options.path', 'of type string', path);
  if (path === '' || path.includes('\0')) {
    throw invalidValue('options.path', 'must be a path without null bytes', path);
  }
  checkInteger('options.fileOffset', fileOffset, 0, Number.MAX_SAFE_INTEGER);
  checkWholePages('options.fileOffset', fileOffset, binding().pageSize);
  const size = binding().regularFileBytes(path);
  if (isFailure(size)) throw allocationError(size, path);
  if (size === 0) throw invalidValue('options.path', 'is a file without bytes', path);
  if (fileOffset >= size)
    throw outOfRange('options.fileOffset', `< ${size}, the size of the file`, fileOffset);
  return { path, fileOffset, left: size - fileOffset };
}

function wholePages(bytes: unknown, unit: number): number {
  checkInteger('options.bytes', bytes, 1, Number.MAX_SAFE_INTEGER);
  const rounded = Math.ceil(bytes / unit) * unit;
  if (rounded <= constants.MAX_LENGTH) return rounded;
  throw outOfRange('options.bytes', `<= ${constants.MAX_LENGTH}, the longest buffer of this Node.js`, bytes);
}

/** A touch behind the last page of a file ends the process (SIGBUS). */
function checkFileHas(bytes: number, asked: unknown, pageSize: number, left: number): void {
  if (bytes <= Math.ceil(left / pageSize) * pageSize) return;
  throw outOfRange('options.bytes', `<= ${left}, what the file has from there on`, asked);
}

function allocationError(failure: NativeFailure, path: unknown): UffdError {
  const code = errnoName(failure.errno);
  if (typeof path !== 'string') return systemError(failure);
  const why: Record<string, string> = {
    ENODEV: 'It must be a regular file that can be mapped',
    EISDIR: 'It must be a regular file',
    ERANGE: 'It became shorter meanwhile',
  };
  const shortage = shortageHint(code);
  return systemError(failure, shortage ?? `${why[code] ?? 'The file is'}: ${path}`);
}
