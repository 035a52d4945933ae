// Memory registered with a userfaultfd, and how its faults end.

import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { types } from 'node:util';
import type { NativePolicy } from './binding.js';
import { checkSource } from './bytes.js';
import {
  featureNeeded,
  fileError,
  invalidType,
  invalidValue,
  notRegularFile,
  outOfRange,
  UffdError,
} from './errors.js';
import type { Feature } from './features.js';
import { Region, regionInternals } from './region.js';
import { checkConstruct, checkInteger, checkOneOf, checkOptions, CONSTRUCT } from './validate.js';

/** UFFDIO_REGISTER_MODE_*. */
const MODES = { missing: 1, 'write-protect': 2, minor: 4 } as const;
const DEFAULT_DEADLINE_MS = 1000;
const LONGEST_DEADLINE_MS = 2 ** 31 - 1;
const READING = 'read the page source';

export type RegisterMode = keyof typeof MODES;

/** Part of a regular file, by its path or an open descriptor. Bytes; default all of it. */
export interface FileSource {
  file: string | number;
  offset?: number;
  length?: number;
}

/** Memory of `Region.allocate` or in a SharedArrayBuffer, from `offset` on, in bytes. */
export interface RegionSource {
  region: Region;
  offset?: number;
}

export type PageSource = 'zero' | Region | RegionSource | FileSource;

export interface RegisterOptions {
  /**
   * `'native'` (default): the loop thread ends every fault itself; the iterator observes. `'handler'`:
   * JavaScript ends it with `fault.resolve()`, and the loop does so when JavaScript cannot: a fault of
   * the consuming thread within a millisecond or two, any other after `deadlineMs` or when nobody consumes.
   */
  resolve?: 'native' | 'handler';
  /** For `'handler'`: milliseconds from reading a fault to ending it without JavaScript. Default 1,000. */
  deadlineMs?: number;
  /**
   * Where the loop takes missing pages from; zeros after its end. Page 0 of the registration is at the
   * source's offset. Default `'zero'`.
   */
  source?: PageSource;
  /**
   * What the loop answers a missing page where there is no source, or the source failed: zeros, or
   * poison (the thread gets SIGBUS). Minor faults: the page that is there, or poison. Default
   * `'zeropage'`, and `'poison'` with a source: bytes that cannot be had are not made up.
   */
  fallback?: 'zeropage' | 'poison';
}

/** @internal The userfaultfd behind a registration. */
export interface RegistrationOwner {
  closeRegistration(registration: Registration): void;
}

/** Memory registered with one userfaultfd. `close()` is `uffd.unregister(region)`. */
export class Registration implements Disposable {
  readonly region: Region;
  readonly modes: ReadonlySet<RegisterMode>;
  readonly resolve: 'native' | 'handler';
  /** The ioctls this memory allows, for example `'WRITEPROTECT'`. */
  readonly ioctls: ReadonlySet<string>;
  /** The part that is registered, in bytes: memory that grows later is not in it. */
  readonly byteLength: number;
  readonly #owner: RegistrationOwner;

  /** @internal */
  constructor(
    token: typeof CONSTRUCT,
    owner: RegistrationOwner,
    fields: Pick<Registration, 'region' | 'modes' | 'resolve' | 'ioctls' | 'byteLength'>,
  ) {
    checkConstruct('Registration', token);
    this.#owner = owner;
    this.region = fields.region;
    this.modes = fields.modes;
    this.resolve = fields.resolve;
    this.ioctls = fields.ioctls;
    this.byteLength = fields.byteLength;
  }

  close(): void {
    this.#owner.closeRegistration(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** @internal */
export function checkModes(mode: unknown, features: ReadonlySet<Feature>): Set<RegisterMode> {
  const names = Object.keys(MODES) as RegisterMode[];
  const given = Array.isArray(mode) ? (mode as unknown[]) : [mode];
  if (given.length === 0) throw invalidValue('mode', `must name at least one of ${names.join(', ')}`, mode);
  const modes = new Set(given.map((each) => checkOneOf('mode', each, names)));
  if (modes.has('minor') && !features.has('MINOR_SHMEM') && !features.has('MINOR_HUGETLBFS')) {
    throw featureNeeded('Mode "minor"', ['MINOR_SHMEM', 'MINOR_HUGETLBFS']);
  }
  return modes;
}

/** @internal What the native half is told, and what to do once it was told. */
export interface PolicyRequest {
  policy: NativePolicy;
  release: () => void;
  /** What must stay as long as the registration. */
  keepAlive?: object;
}

/** @internal */
export function checkPolicy(
  region: Region,
  modes: ReadonlySet<RegisterMode>,
  options: unknown,
  features: ReadonlySet<Feature>,
): PolicyRequest {
  const given = checkOptions('options', options, ['resolve', 'deadlineMs', 'source', 'fallback']);
  const { resolve = 'native', deadlineMs = DEFAULT_DEADLINE_MS, source = 'zero' } = given;
  const { fallback = source === 'zero' ? 'zeropage' : 'poison' } = given;
  const handler = checkOneOf('options.resolve', resolve, ['native', 'handler']) === 'handler';
  if (handler && !features.has('THREAD_ID')) throw featureNeeded('resolve "handler"', ['THREAD_ID']);
  if (handler && features.has('SIGBUS')) {
    throw invalidValue(
      'options.resolve',
      'cannot be "handler" where the feature SIGBUS was asked for: faults are signals then, and no event comes',
      resolve,
    );
  }
  if (!handler && given['deadlineMs'] !== undefined) {
    throw invalidValue('options.deadlineMs', 'belongs to resolve "handler"', deadlineMs);
  }
  checkInteger('options.deadlineMs', deadlineMs, 1, LONGEST_DEADLINE_MS);
  const poison = checkOneOf('options.fallback', fallback, ['zeropage', 'poison']) === 'poison';
  if (poison && !features.has('POISON')) throw featureNeeded('fallback "poison"', ['POISON']);
  const mode = [...modes].reduce((bits, each) => bits | MODES[each], 0);
  const policy: NativePolicy = { mode, pageSize: region.pageSize, handler, deadlineMs, poison };
  if (source === 'zero') return { policy, release: () => undefined };
  if (!modes.has('missing')) throw invalidValue('options.source', 'belongs to mode "missing"', source);
  if (!features.has('EVENT_REMOVE')) {
    // Only its events tell which pages were given back: those read as zero, and not as the source has them.
    throw featureNeeded('A source', ['EVENT_REMOVE']);
  }
  const { native, ...rest } = openSource(source, region);
  return { policy: { ...policy, source: native }, ...rest };
}

interface OpenSource {
  native: NonNullable<NativePolicy['source']>;
  release: () => void;
  keepAlive?: object;
}

function openSource(source: unknown, region: Region): OpenSource {
  if (Region.isRegion(source)) return openRegionSource({ region: source }, region);
  if (typeof source !== 'object' || source === null) {
    throw invalidType(
      'options.source',
      "'zero', a Region, { region, offset } or { file, offset, length }",
      source,
    );
  }
  return Object.hasOwn(source, 'file') ? openFileSource(source) : openRegionSource(source, region);
}

function openRegionSource(source: object, target: Region): OpenSource {
  const { region, offset = 0 } = checkOptions('options.source', source, ['region', 'offset']);
  if (!Region.isRegion(region)) throw invalidType('options.source.region', 'a Region', region);
  const { bytes } = region;
  const { mapping } = regionInternals(region);
  const shared = types.isSharedArrayBuffer(bytes.buffer);
  if ((mapping === undefined && !shared) || region === target) {
    const why =
      'must be another Region.allocate(), or memory in a SharedArrayBuffer: memory that stays where it is (a plain WebAssembly.Memory may move when it grows)';
    throw invalidValue('options.source', why, region);
  }
  if (bytes.byteLength === 0) throw invalidValue('options.source.region', 'has no bytes yet', region);
  checkInteger('options.source.offset', offset, 0, bytes.byteLength - 1);
  checkSource(bytes);
  const release = (): void => undefined;
  // V8 gives the memory of a shared buffer back when nobody has it any more.
  if (mapping === undefined) return { native: { shared: bytes, offset }, release, keepAlive: bytes };
  return { native: { mapping, offset }, release };
}

function openFileSource(source: object): OpenSource {
  const { file, offset = 0, length } = checkOptions('options.source', source, ['file', 'offset', 'length']);
  checkInteger('options.source.offset', offset, 0, Number.MAX_SAFE_INTEGER);
  if (typeof file !== 'string' && typeof file !== 'number') {
    throw invalidType('options.source.file', 'a path or a file descriptor', file);
  }
  const fd = typeof file === 'string' ? openFile(file) : file;
  const release = (): void => {
    if (fd !== file) closeSync(fd);
  };
  try {
    const { size } = checkFile(fd, file);
    if (offset >= size) {
      throw outOfRange('options.source.offset', `< ${size}, the size of the file`, offset);
    }
    const bytes = length ?? size - offset;
    checkInteger('options.source.length', bytes, 0, Number.MAX_SAFE_INTEGER);
    if (offset + bytes > size) {
      throw outOfRange(
        'options.source.length',
        `<= ${size - offset}, what the file has after the offset`,
        bytes,
      );
    }
    return { native: { fd, offset, length: bytes }, release };
  } catch (error) {
    release();
    throw error;
  }
}

function openFile(path: string): number {
  try {
    // O_NONBLOCK: opening a FIFO would wait for a writer.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw fileError(READING, path, cause);
  }
}

/** A file whose bytes can be read at any place. */
function checkFile(fd: number, file: string | number): Stats {
  const stats = aboutFile(file, () => fstatSync(fd));
  if (!stats.isFile()) throw notRegularFile(READING, nameOf(file), stats.isDirectory());
  // Files that the kernel makes up (of /proc, /sys) have a size of their own making.
  const madeUp = stats.size > 0 && stats.blocks === 0;
  const last = madeUp && aboutFile(file, () => readSync(fd, new Uint8Array(1), 0, 1, stats.size - 1));
  if (stats.size > 0 && last !== 0) return stats;
  throw invalidValue('options.source.file', 'must have bytes, and as many as it says', file);
}

function aboutFile<T>(file: string | number, ask: () => T): T {
  try {
    return ask();
  } catch (cause) {
    throw fileError(READING, nameOf(file), cause);
  }
}

function nameOf(file: string | number): string {
  return typeof file === 'string' ? file : `descriptor ${file}`;
}

/** @internal `mode` is named when the region is registered, but not in it. */
export function notRegistered(mode?: RegisterMode): UffdError {
  const how = mode === undefined ? '' : ` in mode "${mode}"`;
  return new UffdError(`This region is not registered${how} with this userfaultfd`, {
    code: 'ERR_UFFD_NOT_REGISTERED',
    hint: `register(region, ${mode === undefined ? 'mode' : `'${mode}'`}) first.`,
  });
}
