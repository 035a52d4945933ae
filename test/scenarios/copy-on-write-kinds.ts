// Copy-on-write snapshots of every kind of memory. Each function runs in a process of its own (test 64).

import assert from 'node:assert/strict';
import { kMaxLength } from 'node:buffer';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Region, Snapshot, type AllocateOptions, type Trackable } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import {
  assertEqualBytes,
  bytesOf,
  fillPages,
  releaseSweep,
  sharedWasm,
  take,
  takeAndHold,
} from './copy-on-write-support.js';
import { PAGE, WASM_PAGE } from './dirty-support.js';
import { memory as memoryUse } from './loop-support.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

interface Made {
  memory: Trackable;
  bytes: () => Uint8Array;
  pageSize: number;
}

function region(options: AllocateOptions): Made {
  const made = Region.allocate(options);
  return { memory: made, bytes: () => made.bytes, pageSize: made.pageSize };
}

export const MEMORIES: Record<string, () => Made> = {
  anonymous: () => region({ bytes: MIB }),
  memfd: () => region({ bytes: MIB, backing: 'memfd' }),
  'private memfd': () => region({ bytes: MIB, backing: 'memfd', mapping: 'private' }),
  hugetlb: () => region({ bytes: 8 * MIB, backing: 'hugetlb' }),
  'private hugetlb': () => region({ bytes: 8 * MIB, backing: 'hugetlb', mapping: 'private' }),
  'transparent huge pages': () => {
    const made = region({ bytes: 8 * MIB, hugePages: 'advise' });
    made.bytes().fill(1);
    assert.equal(testing().collapse(made.bytes()), undefined);
    assert.ok((testing().hugeBytes(made.bytes()) as number) > 0, 'huge pages map it');
    return made;
  },
  'shared: true': () => region({ bytes: MIB, shared: true }),
  'shared: true, memfd': () => region({ bytes: MIB, shared: true, backing: 'memfd' }),
  'Wasm memory': () => {
    const memory = new WebAssembly.Memory({ initial: 16 });
    return { memory, bytes: () => bytesOf(memory), pageSize: PAGE };
  },
  'shared Wasm memory': () => {
    const memory = sharedWasm(16);
    return { memory, bytes: () => bytesOf(memory), pageSize: PAGE };
  },
};

/** Some pages filled, some zeros, some never touched; every second one written before it is captured. */
export async function exact(resolver: string, kind: string): Promise<void> {
  const { memory, bytes, pageSize } = MEMORIES[kind]!();
  const pages = bytes().byteLength / pageSize;
  fillPages(bytes().subarray(0, (bytes().byteLength * 3) / 4), 1, pageSize);
  bytes().fill(0, pageSize, 2 * pageSize);
  const before = Buffer.from(bytes());
  for (let round = 0; round < 2; round++) {
    const snapshot = takeAndHold(memory, resolver);
    assert.equal(snapshot.mode, 'copy-on-write');
    let written = 0;
    for (let page = round; page < pages; page += 2, written++) bytes()[(page + 1) * pageSize - 1]! ^= 255;
    assert.equal(snapshot.progress.faulted, written);
    assertEqualBytes(snapshot.read(), before, 'before ready');
    releaseSweep();
    await snapshot.ready;
    assertEqualBytes(snapshot.read(), before, 'after ready');
    assert.equal(snapshot.diff().byteLength, written * PAGE);
    assert.equal(snapshot.restore().bytes, written * PAGE);
    assertEqualBytes(bytes(), before, 'restored');
    assert.equal(snapshot.diff().isEmpty, true);
    snapshot.close();
  }
}

export async function several(resolver: string): Promise<void> {
  const kinds = ['anonymous', 'memfd', 'private memfd', 'shared: true', 'Wasm memory', 'shared Wasm memory'];
  const made = kinds.map((kind) => MEMORIES[kind]!());
  made.forEach(({ bytes }, i) => fillPages(bytes(), 10 * i));
  const before = made.map(({ bytes }) => Buffer.from(bytes()));
  const snapshot = take(
    made.map(({ memory }) => memory),
    resolver,
  );
  for (const { bytes } of made) bytes().fill(255);
  await snapshot.ready;
  before.forEach((bytes, i) => assertEqualBytes(snapshot.read(0, undefined, i), bytes, kinds[i]!));
  snapshot.restore();
  made.forEach(({ bytes }, i) => assertEqualBytes(bytes(), before[i]!, kinds[i]!));
}

/** Above 4 GiB where Node.js has such buffers, and nearly all of it holes: read, discarded and swept without becoming resident. */
export async function sparse(resolver: string, backing: string): Promise<void> {
  // The longest buffer of Node.js 20 has 4 GiB.
  const gib = kMaxLength >= 5 * GIB ? 5 : 4;
  const memory = Region.allocate({ bytes: gib * GIB, backing: backing as 'anonymous' });
  const offsets = [0, GIB + 5 * PAGE, (gib - 1) * GIB + 7 * PAGE, gib * GIB - PAGE];
  for (const offset of offsets) memory.bytes.fill(3, offset, offset + PAGE);
  const before = memoryUse().residentKib;
  const grewMiB = (): number => (memoryUse().residentKib - before) / 1024;
  const snapshot = takeAndHold(memory, resolver);
  // One captured by its writer, a hole that is written, and holes that are read and discarded.
  memory.bytes.fill(4, offsets[2], offsets[2]! + PAGE);
  memory.bytes[GIB + 99 * PAGE] = 4;
  assert.ok(snapshot.read(2 * GIB, 64 * MIB).every((byte) => byte === 0));
  assert.ok(grewMiB() < 32 + 64, `read() made ${grewMiB()} MiB resident`);
  memory.discard(2 * GIB, 256 * MIB);
  assert.ok(grewMiB() < 32 + 64, `discard() made ${grewMiB()} MiB resident`);
  releaseSweep();
  await snapshot.ready;
  assert.ok(grewMiB() < 32 + 64, `the background made ${grewMiB()} MiB resident`);
  assert.equal(snapshot.progress.bytes, offsets.length * PAGE);
  for (const offset of offsets) {
    assert.ok(
      snapshot.read(offset, PAGE).every((byte) => byte === 3),
      `at ${offset}`,
    );
  }
  assert.equal(snapshot.read(GIB + 99 * PAGE, 1)[0], 0);
  assert.deepEqual(
    [...snapshot.diff()],
    [
      { offset: GIB + 99 * PAGE, length: PAGE },
      { offset: offsets[2]!, length: PAGE },
    ],
  );
  assert.equal(snapshot.restore().pages, 2);
  // What was given back is compared, and reading a hole of shared memory makes it resident.
  const compared = backing === 'memfd' ? 256 : 0;
  assert.ok(grewMiB() < 32 + 64 + compared, `restoring made ${grewMiB()} MiB resident`);
}

/** Pages that are in the page cache and in no page table of ours. */
export async function filledThroughAlias(resolver: string): Promise<void> {
  const memory = Region.allocate({ bytes: 8 * MIB, backing: 'hugetlb' });
  const alias = memory.alias();
  fillPages(alias.bytes, 1, memory.pageSize);
  const before = Buffer.from(alias.bytes);
  alias.close();
  const gone = (): boolean => {
    try {
      take(memory, resolver).close();
      return true;
    } catch {
      return false;
    }
  };
  // The mapping of the alias goes with its buffer.
  while (!gone()) await new Promise((resolve) => setTimeout(resolve, 1));
  const fresh = memory;
  const snapshot = takeAndHold(fresh, resolver);
  assertEqualBytes(snapshot.read(0, 2 * MIB), before.subarray(0, 2 * MIB), 'before ready');
  releaseSweep();
  await snapshot.ready;
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
}

export function refused(): void {
  const file = path.join(tmpdir(), `copy-on-write-${process.pid}`);
  writeFileSync(file, Buffer.alloc(4 * PAGE, 1));
  const aliased = Region.allocate({ bytes: PAGE, backing: 'memfd' });
  const alias = aliased.alias();
  const refusals: Trackable[] = [
    new Uint8Array(4 * PAGE),
    new ArrayBuffer(4 * PAGE),
    new SharedArrayBuffer(4 * PAGE),
    Region.from(Buffer.alloc(4 * PAGE)),
    Region.allocate({ backing: 'file', path: file }),
    aliased,
    alias,
  ];
  for (const memory of refusals) {
    for (const resolver of ['loop', 'in-thread']) {
      assert.throws(() => take([Region.allocate({ bytes: PAGE }), memory], resolver), {
        name: 'TypeError',
        code: 'ERR_INVALID_ARG_VALUE',
        message: /copy-on-write/,
      });
    }
    using automatic = Snapshot.take(memory);
    assert.equal(automatic.mode, 'copy');
  }
  rmSync(file);
}

function mergedPages(): number {
  return Number(/ksm_merging_pages (\d+)/.exec(readFileSync('/proc/self/ksm_stat', 'utf8'))?.[1] ?? '0');
}

/** All memory of the process may be merged, and some is: not what is captured, and no write is lost. */
export async function mergedMemory(resolver: string): Promise<void> {
  assert.equal(testing().mergeMemory(true), 0);
  const memory = sharedWasm(16);
  const bait = new WebAssembly.Memory({ initial: 16 });
  for (const bytes of [bytesOf(memory), bytesOf(bait)]) bytes.fill(0xa6);
  const before = Buffer.from(bytesOf(memory));
  const snapshot = takeAndHold(memory, resolver);
  const deadline = performance.now() + 20_000;
  while (mergedPages() < (16 * WASM_PAGE) / PAGE / 2) {
    assert.ok(performance.now() < deadline, `only ${mergedPages()} pages were merged`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const bytes = bytesOf(memory);
  for (let at = 0; at < bytes.length; at += 2 * PAGE) bytes[at] = 1;
  assert.equal(snapshot.progress.faulted, bytes.length / PAGE / 2, 'every write was seen');
  releaseSweep();
  await snapshot.ready;
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  snapshot.restore();
  assertEqualBytes(bytes, before, 'the memory');
}
