// Makes the bytes of a snapshot file in the order in which they lie in it: a file and a stream are
// the same bytes.

import { createHash } from 'node:crypto';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { outOfRange, parentMismatch, throwIfAborted } from './errors.js';
import { PageRuns } from './page-runs.js';
import type { RangeList } from './range-list.js';
import { behind } from './read-ahead.js';
import type { SnapshotChain } from './snapshot-chain.js';
import {
  DIGEST_BYTES,
  encodeHeader,
  encodeTrailer,
  headerDigestOf,
  MAX_MEMORIES,
  MAX_PARENT_NAME,
  TRAILER_BYTES,
} from './snapshot-format.js';
import { encodeIndex, type MemoryIndex } from './snapshot-index.js';
import { Candidates, ParentPages, selectPages } from './snapshot-selection.js';

/** What a file is made from: a snapshot. */
export interface SnapshotSource {
  /** Of each memory, in bytes. */
  readonly byteLengths: readonly number[];
  /** In bytes. */
  readonly pageSize: number;
  /** A copy, which becomes the encoder's; in `into`, of `length` bytes, where the source can use that. */
  read(offset: number, length: number, memory: number, into?: Uint8Array): Uint8Array;
  /** The bytes of a memory that may differ from the file with this digest; undefined: all may. */
  changesSince?(digest: string, memory: number): RangeList | undefined;
  /** All of it was made into a file, or a stream. */
  saved?(stats: SaveStats): void;
}

/** What a saved file or a stream holds. */
export interface SaveStats {
  /** Size of the file. */
  bytes: number;
  /** Pages whose bytes are in it. */
  pages: number;
  /** Pages it says are zero where the parent has others. */
  zeroPages: number;
  /** Names the file and everything in it, as hexadecimal SHA-256. */
  digest: string;
}

/** In bytes of the memories. */
export interface SaveProgress {
  done: number;
  total: number;
}

export interface EncodeOptions {
  parent?: SnapshotChain | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: SaveProgress) => void) | undefined;
  /**
   * So many of the pieces that were given away are in use when the next is asked for: buffers are used again after
   * that. Default: each has its own.
   */
  inUse?: number;
}

/** Of memory, taken at a time: a millisecond of digests. Smaller pieces wake threads more often than they can be woken. */
const STEP = 2 ** 20;
/** So many pieces are read ahead, for their digests to be made meanwhile. */
const AHEAD = 4;

/** What it gives away is not looked at again: who takes it may write over it or transfer it. */
export class SnapshotEncoder {
  readonly #pageSize: number;
  readonly #header: Buffer;
  readonly #headerDigest: Buffer;
  readonly #memories: MemoryIndex[] = [];
  readonly #digests: Buffer[] = [];
  #dataPages = 0;
  stats: SaveStats | undefined;

  constructor(pageSize: number, memoryCount: number, parent?: SnapshotChain) {
    if (memoryCount > MAX_MEMORIES) throw outOfRange('memories', `at most ${MAX_MEMORIES}`, memoryCount);
    this.#pageSize = pageSize;
    this.#header = encodeHeader({ pageSize, memoryCount, parent: parent && parentOf(parent) });
    this.#headerDigest = headerDigestOf(this.#header);
  }

  header(): Buffer {
    return this.#header;
  }

  memory(byteLength: number): void {
    const pages = Math.ceil(byteLength / this.#pageSize);
    const [data, zero] = [new PageRuns(), new PageRuns()];
    this.#memories.push({ byteLength, pages, data, zero, dataIndex: this.#dataPages });
  }

  /** Says that a page of the memory is in the file; its bytes are to follow. */
  data(page: number, count: number): void {
    this.#memories.at(-1)!.data.add(page, count);
    this.#dataPages += count;
  }

  zero(page: number, count: number): void {
    this.#memories.at(-1)!.zero.add(page, count);
  }

  /** Of the pages that `data` was told of, in that order. */
  digests(digests: Buffer): void {
    this.#digests.push(digests);
  }

  /** What comes behind the pages. */
  *end(): Generator<Buffer, undefined, undefined> {
    const index = [encodeIndex(this.#memories), ...this.#digests];
    const hash = createHash('sha256');
    let indexBytes = 0;
    for (const part of index) {
      hash.update(part);
      indexBytes += part.length;
      yield part;
    }
    const trailer = encodeTrailer({
      dataPages: this.#dataPages,
      indexBytes,
      headerDigest: this.#headerDigest,
      indexDigest: hash.digest(),
    });
    const stats = {
      // The header has a page.
      bytes: (1 + this.#dataPages) * this.#pageSize + indexBytes + TRAILER_BYTES,
      pages: this.#dataPages,
      zeroPages: this.#memories.reduce((sum, { zero }) => sum + zero.pageCount, 0),
      digest: trailer.subarray(-DIGEST_BYTES).toString('hex'),
    };
    yield trailer;
    this.stats = stats;
    return undefined;
  }
}

/** The file of `source`, whole or as a difference from `parent`. */
export async function* encode(
  encoder: SnapshotEncoder,
  source: SnapshotSource,
  { parent, signal, onProgress, inUse }: EncodeOptions,
): AsyncGenerator<Buffer, undefined, undefined> {
  if (parent !== undefined) checkParent(source, parent);
  const { byteLengths, pageSize } = source;
  const total = byteLengths.reduce((sum, bytes) => sum + bytes, 0);
  const step = Math.ceil(STEP / pageSize) * pageSize;
  const room = inUse === undefined ? undefined : new Room(step, inUse);
  let before = 0;
  let done = 0;
  const advance = (to: number): void => {
    if (to > done) onProgress?.({ done: (done = to), total });
  };
  yield encoder.header();
  for (const [memory, byteLength] of byteLengths.entries()) {
    encoder.memory(byteLength);
    const older = parent && new ParentPages(parent.digestReader(memory));
    for (const { candidates, buffer, end } of behind(
      pieces(source, memory, parent, step, room, signal),
      AHEAD,
    )) {
      throwIfAborted(signal);
      const kept = await selectPages(encoder, candidates, older);
      advance(before + end);
      // Where nothing is to be written nothing would let other work of the program run.
      if (kept.length > 0) yield kept;
      else await setImmediate();
      if (buffer !== undefined) room?.giveBack(buffer, kept.length > 0);
    }
    before += byteLength;
    advance(before);
  }
  yield* encoder.end();
  source.saved?.(encoder.stats!);
  return undefined;
}

interface Piece {
  candidates: Candidates;
  /** What it was read into, if that is to be used again. */
  buffer: Buffer | undefined;
  /** Of the bytes of its memory that were looked at. */
  end: number;
}

/** Of one memory: what must be looked at, read, with its digests begun. */
function* pieces(
  source: SnapshotSource,
  memory: number,
  parent: SnapshotChain | undefined,
  step: number,
  room: Room | undefined,
  signal: AbortSignal | undefined,
): Generator<Piece, undefined, undefined> {
  const { pageSize } = source;
  for (const { offset, length } of steps(source, memory, parent, step)) {
    throwIfAborted(signal);
    const buffer = room?.take();
    const bytes = source.read(offset, length, memory, buffer?.subarray(0, length));
    const candidates = new Candidates(wholePages(bytes, pageSize), offset / pageSize, pageSize);
    yield { candidates, buffer, end: offset + length };
  }
  return undefined;
}

/** What must be looked at: whole pages (but for the last of a memory), at most `step` bytes each. */
function* steps(
  source: SnapshotSource,
  memory: number,
  parent: SnapshotChain | undefined,
  step: number,
): Generator<{ offset: number; length: number }, undefined, undefined> {
  const { pageSize } = source;
  const byteLength = source.byteLengths[memory]!;
  const isAsLong = parent?.newest.memories[memory]!.byteLength === byteLength;
  const changes = isAsLong ? source.changesSince?.(parent.newest.digest.toString('hex'), memory) : undefined;
  const ranges = changes ?? Float64Array.of(0, byteLength);
  let reached = 0;
  for (let i = 0; i < ranges.length; i += 2) {
    const first = Math.max(reached, Math.floor(ranges[i]! / pageSize) * pageSize);
    reached = Math.min(Math.ceil((ranges[i]! + ranges[i + 1]!) / pageSize) * pageSize, byteLength);
    for (let offset = first; offset < reached; offset += step) {
      yield { offset, length: Math.min(step, reached - offset) };
    }
  }
  return undefined;
}

/** Buffers for pieces, used again when they are written. Fresh ones cost page faults. */
class Room {
  readonly #bytes: number;
  readonly #inUse: number;
  readonly #free: Buffer[] = [];
  /** Given away, the oldest first. */
  readonly #given: Buffer[] = [];

  constructor(bytes: number, inUse: number) {
    this.#bytes = bytes;
    this.#inUse = inUse;
  }

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#bytes);
  }

  /** When the next piece is asked for. */
  giveBack(buffer: Buffer, wasGiven: boolean): void {
    (wasGiven ? this.#given : this.#free).push(buffer);
    if (this.#given.length > this.#inUse) this.#free.push(this.#given.shift()!);
  }
}

function parentOf(parent: SnapshotChain): { digest: Buffer; name: string } {
  const { file, digest } = parent.newest;
  const name = file.path === undefined ? '' : path.basename(file.path);
  return { digest, name: Buffer.byteLength(name) > MAX_PARENT_NAME ? '' : name };
}

function checkParent(source: SnapshotSource, parent: SnapshotChain): void {
  if (parent.pageSize !== source.pageSize) {
    throw parentMismatch(`it has pages of ${parent.pageSize} bytes, the snapshot of ${source.pageSize}`);
  }
  if (parent.maps.length !== source.byteLengths.length) {
    throw parentMismatch(
      `it has ${parent.maps.length} memories, the snapshot has ${source.byteLengths.length}`,
    );
  }
}

/** The last page of a memory may be a part of one: zeros fill it up. */
function wholePages(bytes: Uint8Array, pageSize: number): Buffer {
  const rest = bytes.length % pageSize;
  if (rest === 0) return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const whole = Buffer.alloc(bytes.length - rest + pageSize);
  whole.set(bytes);
  return whole;
}
