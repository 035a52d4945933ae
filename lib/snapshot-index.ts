// The index of a snapshot file: which pages of which memory it holds. docs/snapshot-format.md.

import { snapshotCorrupt } from './errors.js';
import { PageRuns, type Layer } from './page-runs.js';
import { DIGEST_BYTES, readU64, writeU64, type Header, type Trailer } from './snapshot-format.js';

const TABLE_ENTRY_BYTES = 24;
const RUN_BYTES = 16;

/** One memory of a file. */
export interface MemoryIndex extends Layer {
  byteLength: number;
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
  readonly #isWhole: boolean;
  readonly #dataPages: number;
  #counts: { byteLength: number; data: number; zero: number }[] = [];
  #runsLeft = 0;
  #memory = 0;
  #dataIndex = 0;
  readonly memories: MemoryIndex[] = [];

  constructor({ memoryCount, pageSize, parent }: Header, { dataPages, indexBytes }: Trailer) {
    this.#memoryCount = memoryCount;
    this.#pageSize = pageSize;
    this.#isWhole = parent === undefined;
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
      // What is in no run of a file without parent is zero already.
      if (this.#isWhole && entry.zero > 0) throw badIndex();
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
