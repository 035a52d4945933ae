// The bytes of a snapshot file but its index: docs/snapshot-format.md. Knows no file and no memory.

import { createHash } from 'node:crypto';
import { snapshotCorrupt, snapshotVersion } from './errors.js';

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
  const header = { pageSize, memoryCount, parent: flags === 0 ? undefined : { digest, name } };
  // What is zero in this version, is: one content has one encoding.
  if (!encodeHeader(header).subarray(0, HEADER_BYTES).equals(bytes.subarray(0, HEADER_BYTES))) {
    throw snapshotCorrupt('its header says what cannot be');
  }
  return header;
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
  if (!encodeTrailer(trailer).equals(bytes)) throw snapshotCorrupt('its end says what cannot be');
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

export function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

/** What JavaScript can count: a number above 2 ** 53 is none that this package wrote. */
export function readU64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
  if (!Number.isSafeInteger(value)) throw snapshotCorrupt('it has a number that cannot be');
  return value;
}
