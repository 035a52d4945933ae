// What the tests of snapshot files share: a directory that goes, memory with content, and files put
// together by hand.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { PageRuns } from '../../lib/page-runs.js';
import type { SnapshotSource } from '../../lib/snapshot-encoder.js';
import {
  encodeHeader,
  encodeTrailer,
  headerDigestOf,
  type Header,
  type Trailer,
} from '../../lib/snapshot-format.js';
import { encodeIndex } from '../../lib/snapshot-index.js';
import { PAGE, seeded } from '../scenarios/dirty-support.js';

/** A directory for the test, removed after it. */
export function directoryFor(t: TestContext): string {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'uffd-snapshot-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Nothing but these is there: no temporary file was left. */
export function assertOnly(directory: string, ...names: string[]): void {
  assert.deepEqual(readdirSync(directory).sort(), names.sort());
}

/** Writes each of `pages`, every one with bytes of its own. */
export function writePages(bytes: Uint8Array, pages: Iterable<number>, seed: number): void {
  const random = seeded(seed);
  for (const page of pages) {
    const part = bytes.subarray(page * PAGE, (page + 1) * PAGE);
    for (let at = 0; at < part.length; at += 97) part[at] = 1 + random(255);
  }
}

export function assertSame(actual: Uint8Array, expected: Uint8Array, what = 'bytes'): void {
  assert.equal(actual.byteLength, expected.byteLength, what);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  assert.fail(`${what}: byte ${at} is ${actual[at]}, not ${expected[at]}`);
}

/** A snapshot of bytes that stay as they are, without a kernel. */
export function sourceOf(...memories: Uint8Array[]): SnapshotSource {
  return {
    byteLengths: memories.map((bytes) => bytes.byteLength),
    pageSize: PAGE,
    read: (offset, length, memory) => new Uint8Array(memories[memory]!.slice(offset, offset + length)),
  };
}

export interface Crafted {
  header?: Partial<Header>;
  /** Changes header bytes before their digest is made. */
  patchHeader?: (bytes: Buffer) => void;
  byteLength?: number;
  /** `[first, count]` of pages. */
  data?: [first: number, count: number][];
  zero?: [first: number, count: number][];
  /** Data pages that are really there. */
  pages?: number;
  /** Their bytes. */
  content?: Buffer;
  /** Changes the table and runs before their digest is made. */
  patchIndex?: (bytes: Buffer) => void;
  trailer?: Partial<Trailer>;
}

/** A file whose digests are right, whatever else it says. */
export function craft(parts: Crafted = {}): Buffer {
  const { data = [[0, 1]], zero = [], pages = 1, byteLength = 16 * PAGE } = parts;
  const { content = Buffer.alloc(pages * PAGE, 7) } = parts;
  const header = encodeHeader({ pageSize: PAGE, memoryCount: 1, parent: undefined, ...parts.header });
  parts.patchHeader?.(header);
  createHash('sha256').update(header.subarray(0, 4064)).digest().copy(header, 4064);
  const table = encodeIndex([{ byteLength, pages: 16, data: runs(data), zero: runs(zero), dataIndex: 0 }]);
  parts.patchIndex?.(table);
  const index = Buffer.concat([table, digestsOf(content)]);
  const trailer = encodeTrailer({
    dataPages: pages,
    indexBytes: index.length,
    headerDigest: headerDigestOf(header),
    indexDigest: createHash('sha256').update(index).digest(),
    ...parts.trailer,
  });
  return Buffer.concat([header, content, index, trailer]);
}

/** SHA-256 of each page, one after another. */
export function digestsOf(pages: Buffer): Buffer {
  const count = pages.length / PAGE;
  return Buffer.concat(
    Array.from({ length: count }, (_, page) =>
      createHash('sha256')
        .update(pages.subarray(page * PAGE, (page + 1) * PAGE))
        .digest(),
    ),
  );
}

/** As they are given, also when they cannot be. */
function runs(list: [number, number][]): PageRuns {
  const result = new PageRuns();
  const [first, count] = [list.map(([page]) => page), list.map(([, pages]) => pages)];
  result.length = list.length;
  result.first = (run) => first[run]!;
  result.count = (run) => count[run]!;
  return result;
}
