// The bytes of a snapshot file: docs/snapshot-format.md. Knows no file and no memory.

import { createHash } from 'node:crypto';
import { snapshotCorrupt, snapshotVersion } from './errors.js';
import { PageRuns, type Layer } from './page-runs.js';

export const FORMAT_VERSION = 1;
export const DIGEST_BYTES = 32;
export const HEADER_BYTES = 4096;
export const TRAILER_BYTES = 128;
/** More than any program has, few enough that their table is small. */
export const MAX_MEMORIES = 65_536;
/** Of a name in a directory: NAME_MAX. */
export const MAX_PARENT_NAME = 255;

const HEADER_MAGIC = Buffer.from('UFFDSNAP');
const TRAILER_MAGIC = Buffer.from('UFFDSEND');
const FLAG_PARENT = 1;
const HEADER_DIGEST_AT = HEADER_BYTES - DIGEST_BYTES;
const TRAILER_DIGEST_AT = TRAILER_BYTES - DIGEST_BYTES;
const NAME_AT = 72;
const TABLE_ENTRY_BYTES = 24;
const RUN_BYTES = 16;
const MIN_PAGE = 4096;
const MAX_PAGE = 2 ** 20;

export interface Parent {
  /** The trailer's digest of the parent file. */
  digest: Buffer;
  /** What its file was called: a hint where to look, nothing more. Empty when it had no name. */
  name: string;
}

export interface Header {
  pageSize: number;
  memoryCount: number;
  parent: Parent | undefined;
}

export interface Trailer {
  dataPages: number;
  indexBytes: number;
  headerDigest: Buffer;
  indexDigest: Buffer;
  /** Names the file: it covers everything in it. */
  digest: Buffer;
}

/** One memory of a file. */
export interface MemoryIndex extends Layer {
  byteLength: number;
}

export function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

/** A page; with pages larger than the header, zeros behind it. */
export function encodeHeader({ pageSize, memoryCount, parent }: Header): Buffer {
  const bytes = Buffer.alloc(pageSize);
  HEADER_MAGIC.copy(bytes);
  bytes.writeUInt32LE(FORMAT_VERSION, 8);
  bytes.writeUInt32LE(pageSize, 12);
  bytes.writeUInt32LE(memoryCount, 16);
  if (parent !== undefined) {
    bytes.writeUInt32LE(FLAG_PARENT, 20);
    parent.digest.copy(bytes, 32);
    bytes.writeUInt32LE(bytes.write(parent.name, NAME_AT, MAX_PARENT_NAME), 64);
  }
  sha256(bytes.subarray(0, HEADER_DIGEST_AT)).copy(bytes, HEADER_DIGEST_AT);
  return bytes;
}

/** Of the first HEADER_BYTES of a file. */
export function decodeHeader(bytes: Buffer): Header {
  if (bytes.length < HEADER_BYTES) throw snapshotCorrupt('it is shorter than a header');
  if (!bytes.subarray(0, 8).equals(HEADER_MAGIC)) throw snapshotCorrupt('it is no snapshot file');
  if (!sha256(bytes.subarray(0, HEADER_DIGEST_AT)).equals(bytes.subarray(HEADER_DIGEST_AT, HEADER_BYTES))) {
    throw snapshotCorrupt('its header does not match its digest');
  }
  // Every version keeps the magic, this number and the digest where they are.
  const version = bytes.readUInt32LE(8);
  if (version > FORMAT_VERSION) throw snapshotVersion(version, FORMAT_VERSION);
  const pageSize = bytes.readUInt32LE(12);
  const memoryCount = bytes.readUInt32LE(16);
  const flags = bytes.readUInt32LE(20);
  const nameBytes = bytes.readUInt32LE(64);
  const possible =
    version === FORMAT_VERSION &&
    pageSize >= MIN_PAGE &&
    pageSize <= MAX_PAGE &&
    Number.isInteger(Math.log2(pageSize)) &&
    memoryCount >= 1 &&
    memoryCount <= MAX_MEMORIES &&
    (flags === 0 || flags === FLAG_PARENT) &&
    nameBytes <= MAX_PARENT_NAME;
  if (!possible) throw snapshotCorrupt('its header says what cannot be');
  const name = bytes.toString('utf8', NAME_AT, NAME_AT + nameBytes);
  const digest = Buffer.from(bytes.subarray(32, 32 + DIGEST_BYTES));
  return { pageSize, memoryCount, parent: flags === 0 ? undefined : { digest, name } };
}

/** Table and runs; the digests of the data pages follow them. */
export function encodeIndex(memories: readonly MemoryIndex[]): Buffer {
  const runs = memories.reduce((sum, { data, zero }) => sum + data.length + zero.length, 0);
  const bytes = Buffer.alloc(memories.length * TABLE_ENTRY_BYTES + runs * RUN_BYTES);
  let at = 0;
  const put = (value: number): void => {
    writeU64(bytes, value, at);
    at += 8;
  };
  for (const { byteLength, data, zero } of memories) [byteLength, data.length, zero.length].forEach(put);
  for (const { data, zero } of memories) {
    for (const part of [data, zero]) {
      for (let run = 0; run < part.length; run++) {
        put(part.first(run));
        put(part.count(run));
      }
    }
  }
  return bytes;
}

/**
 * Reads an index from its front, as it comes. Everything is checked before it is kept, so that what is
 * allocated follows what is really there, whatever the counts claim.
 */
export class IndexDecoder {
  readonly #memoryCount: number;
  readonly #pageSize: number;
  readonly #dataPages: number;
  #counts: { byteLength: number; data: number; zero: number }[] = [];
  #runsLeft = 0;
  #memory = 0;
  #dataIndex = 0;
  readonly memories: MemoryIndex[] = [];

  constructor({ memoryCount, pageSize }: Header, { dataPages, indexBytes }: Trailer) {
    this.#memoryCount = memoryCount;
    this.#pageSize = pageSize;
    this.#dataPages = dataPages;
    this.runBytes = indexBytes - this.tableBytes - dataPages * DIGEST_BYTES;
    if (this.runBytes < 0 || this.runBytes % RUN_BYTES !== 0) throw badIndex();
  }

  get tableBytes(): number {
    return this.#memoryCount * TABLE_ENTRY_BYTES;
  }

  readonly runBytes: number;

  table(bytes: Buffer): void {
    let runs = 0;
    for (let at = 0; at < bytes.length; at += TABLE_ENTRY_BYTES) {
      const entry = {
        byteLength: readU64(bytes, at),
        data: readU64(bytes, at + 8),
        zero: readU64(bytes, at + 16),
      };
      runs += entry.data + entry.zero;
      this.#counts.push(entry);
    }
    if (runs * RUN_BYTES !== this.runBytes) throw badIndex();
    this.#next();
  }

  /** Whole runs, in order. */
  runs(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += RUN_BYTES) {
      while (this.#runsLeft === 0) this.#next();
      const memory = this.memories.at(-1)!;
      const isData = this.#runsLeft > this.#counts[this.#memory - 1]!.zero;
      const runs = isData ? memory.data : memory.zero;
      const first = readU64(bytes, at);
      const count = readU64(bytes, at + 8);
      // Runs that touch are one run: each content has one encoding.
      const behind = runs.length === 0 ? 0 : runs.end(runs.length - 1) + 1;
      if (count === 0 || first < behind || first + count > memory.pages) throw badIndex();
      runs.add(first, count);
      this.#runsLeft--;
    }
  }

  /** After the last run. */
  finish(): MemoryIndex[] {
    while (this.memories.length < this.#memoryCount) this.#next();
    this.#endMemory();
    if (this.#runsLeft !== 0 || this.#dataIndex !== this.#dataPages) throw badIndex();
    return this.memories;
  }

  #next(): void {
    this.#endMemory();
    const { byteLength, data, zero } = this.#counts[this.#memory++]!;
    const pages = Math.ceil(byteLength / this.#pageSize);
    this.#runsLeft = data + zero;
    this.memories.push({
      byteLength,
      pages,
      data: new PageRuns(),
      zero: new PageRuns(),
      dataIndex: this.#dataIndex,
    });
  }

  #endMemory(): void {
    const memory = this.memories.at(-1);
    if (memory === undefined) return;
    if (overlaps(memory.data, memory.zero)) throw badIndex();
    this.#dataIndex = memory.dataIndex + memory.data.pageCount;
  }
}

export function encodeTrailer(fields: Omit<Trailer, 'digest'>): Buffer {
  const bytes = Buffer.alloc(TRAILER_BYTES);
  TRAILER_MAGIC.copy(bytes);
  writeU64(bytes, fields.dataPages, 16);
  writeU64(bytes, fields.indexBytes, 24);
  fields.headerDigest.copy(bytes, 32);
  fields.indexDigest.copy(bytes, 64);
  sha256(bytes.subarray(0, TRAILER_DIGEST_AT)).copy(bytes, TRAILER_DIGEST_AT);
  return bytes;
}

/** Of the last TRAILER_BYTES of a file of `fileBytes`. */
export function decodeTrailer(bytes: Buffer, header: Header, fileBytes: number): Trailer {
  const digest = Buffer.from(bytes.subarray(TRAILER_DIGEST_AT, TRAILER_BYTES));
  const whole =
    bytes.length === TRAILER_BYTES &&
    bytes.subarray(0, 8).equals(TRAILER_MAGIC) &&
    sha256(bytes.subarray(0, TRAILER_DIGEST_AT)).equals(digest);
  if (!whole) throw snapshotCorrupt('its end is missing or does not match its digest');
  const trailer = {
    dataPages: readU64(bytes, 16),
    indexBytes: readU64(bytes, 24),
    headerDigest: Buffer.from(bytes.subarray(32, 64)),
    indexDigest: Buffer.from(bytes.subarray(64, 96)),
    digest,
  };
  // Where pages and index lie follows from their number, so that they cannot overlap.
  if (indexOffset(header, trailer) + trailer.indexBytes + TRAILER_BYTES !== fileBytes) {
    throw snapshotCorrupt('it is shorter or longer than it says');
  }
  return trailer;
}

export function headerDigestOf(header: Buffer): Buffer {
  return Buffer.from(header.subarray(HEADER_DIGEST_AT, HEADER_BYTES));
}

/** Where a data page is, in bytes. */
export function pageOffset({ pageSize }: Header, index: number): number {
  return pageSize * (1 + index);
}

export function indexOffset(header: Header, { dataPages }: { dataPages: number }): number {
  return pageOffset(header, dataPages);
}

function badIndex(): Error {
  return snapshotCorrupt('its index says what cannot be');
}

function overlaps(a: PageRuns, b: PageRuns): boolean {
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a.first(i) < b.end(j) && b.first(j) < a.end(i)) return true;
    if (a.end(i) <= b.end(j)) i++;
    else j++;
  }
  return false;
}

function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

/** What JavaScript can count: a number above 2 ** 53 is none that this package wrote. */
function readU64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
  if (!Number.isSafeInteger(value)) throw snapshotCorrupt('it has a number that cannot be');
  return value;
}
