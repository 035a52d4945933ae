// The engine that needs nothing, and falling back to it.

import assert from 'node:assert/strict';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { DirtyTracker, Region, Snapshot, SnapshotHistory, Userfaultfd } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import {
  KINDS,
  lastByteOf,
  offsetOf,
  PAGE,
  pageCountOf,
  pageRun,
  pagesOf,
  seeded,
  touch,
  WASM,
} from './dirty-support.js';

const MIB = 2 ** 20;
const ENOTTY = 25;

interface CodedWarning extends Error {
  code?: string;
}

/** What this process and its page tables hold, in bytes. */
export function held(): { resident: number; pageTables: number } {
  const status = readFileSync('/proc/self/status', 'utf8');
  const kilobytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)![1]);
  return { resident: kilobytes('RssAnon') * 1024, pageTables: kilobytes('VmPTE') * 1024 };
}

/** A program that knows nothing of engines. */
function program(): string[] {
  const region = Region.allocate({ bytes: 16 * PAGE });
  const memory = new WebAssembly.Memory({ initial: 1 });
  region.bytes.fill(1, 0, 3 * PAGE);
  using tracker = new DirtyTracker([region, memory]);
  touch(region.bytes, 5, 1);
  touch(new Uint8Array(memory.buffer), 7, 1);
  const dirty = tracker.collect();
  assert.deepEqual(pagesOf(dirty.of(0)), [5]);
  assert.deepEqual(pagesOf(dirty.of(1)), [7]);
  assert.equal(tracker.collect().isEmpty, true);
  using snapshot = Snapshot.take([region, memory]);
  region.bytes.fill(9);
  memory.grow(1);
  new Uint8Array(memory.buffer).fill(9);
  assert.equal(snapshot.restore().different, 0);
  assert.deepEqual([region.bytes[3 * PAGE - 1], region.bytes[3 * PAGE], region.bytes[5 * PAGE]], [1, 0, 1]);
  assert.ok(new Uint8Array(memory.buffer).every((byte, i) => byte === (i === 7 * PAGE ? 1 : 0)));
  assert.equal(snapshot.diff().isEmpty, true);
  return [tracker.engine, String(tracker.exact)];
}

export async function barred(errno: string): Promise<void> {
  assert.equal(testing().refuseUserfaultfd(Number(errno)), 0);
  const warnings: CodedWarning[] = [];
  process.on('warning', (warning) => warnings.push(warning));
  for (let round = 0; round < 3; round++) assert.deepEqual(program(), ['compare', 'false']);
  assert.throws(() => new DirtyTracker(new Uint8Array(8), { engine: 'wp-async' }), {
    syscall: /userfaultfd/,
  });
  // Comparing cannot prove that a copy of what other threads write is of one instant.
  assert.throws(() => Snapshot.take([new ArrayBuffer(8), new SharedArrayBuffer(8)]), {
    syscall: /userfaultfd/,
  });
  // A Worker of the same process says nothing more.
  const worker = new Worker(
    `const { DirtyTracker } = require(${JSON.stringify(require.resolve('../../lib/index.js'))});
     process.on('warning', () => { process.exitCode = 3; });
     const { engine } = new DirtyTracker(new Uint8Array(8192));
     if (engine !== 'compare') process.exitCode = 4;
     setImmediate(() => undefined);`,
    { eval: true },
  );
  assert.equal(await new Promise((resolve) => worker.once('exit', resolve)), 0);
  await new Promise((resolve) => setImmediate(resolve));
  console.log(JSON.stringify(warnings.map(({ code, message }) => ({ code, message }))));
}

export function askedFor(): void {
  process.on('warning', (warning) => assert.fail(warning.message));
  using tracker = new DirtyTracker(new Uint8Array(8 * PAGE), { engine: 'compare' });
  assert.equal(tracker.engine, 'compare');
}

/** No PAGEMAP_SCAN: Linux before 6.7. */
export function withoutScan(): void {
  assert.equal(testing().refuseIoctl('PAGEMAP_SCAN', ENOTTY), 0);
  const region = Region.allocate({ bytes: 16 * PAGE });
  using tracker = new DirtyTracker(region, { engine: 'compare' });
  touch(region.bytes, 3, 1);
  assert.deepEqual(pagesOf(tracker.collect()), [3]);
  assert.deepEqual(pagesOf(tracker.collect()), []);
}

/** What was never touched is neither read nor copied. */
export function holesCostNothing(): void {
  const bytes = 1024 * MIB;
  const region = Region.allocate({ bytes });
  for (let page = 0; page < 1000; page++) touch(region.bytes, page * 100, 1);
  const before = held();
  using tracker = new DirtyTracker(region, { engine: 'compare' });
  touch(region.bytes, 5, 1);
  for (let look = 0; look < 3; look++) assert.deepEqual(pagesOf(tracker.collect()), look === 0 ? [5] : []);
  const after = held();
  const cost = {
    resident: after.resident - before.resident,
    pageTables: after.pageTables - before.pageTables,
  };
  // The copy of 1,001 pages and the page tables it lies in; nothing of the other 261,143.
  assert.ok(cost.resident < 1001 * PAGE + 2 * MIB, `${cost.resident} bytes more`);
  assert.ok(cost.pageTables < 2 * MIB, `${cost.pageTables} bytes of page tables more`);
}

/** Memory of a file of which no page is in the page cache: it was written past it. */
function coldMemory(directory: string, pages: number): Region {
  const bytes = Region.allocate({ bytes: pages * PAGE });
  bytes.bytes.fill(7);
  const name = path.join(directory, `bytes-${pages}`);
  const file = openSync(name, constants.O_CREAT | constants.O_RDWR | constants.O_DIRECT);
  assert.equal(writeSync(file, bytes.bytes), pages * PAGE);
  closeSync(file);
  return Region.allocate({ backing: 'file', path: name });
}

/** As zeros, which is what is known of them; also among pages that exist. */
export function looksNowhereUnmapped(): void {
  const region = Region.allocate({ bytes: 1024 * PAGE });
  region.bytes.fill(1);
  using tracker = new DirtyTracker(region, { engine: 'compare' });
  assert.equal(testing().unmap(region.bytes.subarray(100 * PAGE, 110 * PAGE)), undefined);
  assert.deepEqual(pagesOf(tracker.peek()), pageRun(100, 10));
  assert.equal(testing().unmap(region.bytes.subarray(512 * PAGE)), undefined);
  assert.deepEqual(pagesOf(tracker.peek()), [...pageRun(100, 10), ...pageRun(512, 512)]);
}

/** What is not in memory is not therefore zero. */
export function onADisk(): void {
  const directory = mkdtempSync(path.join(tmpdir(), 'userfaultfd-'));
  try {
    const region = coldMemory(directory, 64);
    using tracker = new DirtyTracker(region, { engine: 'compare' });
    region.bytes.fill(0, 10 * PAGE, 12 * PAGE);
    assert.deepEqual(pagesOf(tracker.collect()), [10, 11], 'zeros over what the file has');
    for (let page = 0; page < 64; page++)
      assert.equal(region.bytes[page * PAGE], page < 10 || page > 11 ? 7 : 0);
    assert.deepEqual(pagesOf(tracker.collect()), [], 'and what is only read is not written');
    for (const engine of ['wp-async', 'compare'] as const) {
      const memory = coldMemory(directory, engine === 'compare' ? 32 : 48);
      using history = new SnapshotHistory(memory, { engine });
      const first = history.take();
      memory.bytes.fill(1, 0, 8 * PAGE);
      history.take();
      assert.equal(history.read(first, 20 * PAGE, 1)[0], 7);
      history.restore(first);
      assert.ok(
        memory.bytes.every((byte) => byte === 7),
        engine,
      );
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Zero pages that exist are looked at and not stored; what becomes zero is given back. */
export function zerosAreNotStored(): void {
  const region = Region.allocate({ bytes: 64 * MIB });
  region.bytes.fill(0);
  const before = held().resident;
  using tracker = new DirtyTracker(region, { engine: 'compare' });
  assert.ok(held().resident - before < MIB, 'nothing but zeros: no copy');
  region.bytes.fill(1);
  assert.equal(tracker.collect().byteLength, 64 * MIB);
  assert.ok(held().resident - before > 60 * MIB);
  region.bytes.fill(0);
  assert.equal(tracker.collect().byteLength, 64 * MIB);
  assert.ok(held().resident - before < 2 * MIB, 'the copy of what became zero is given back');
  region.bytes.fill(1);
  tracker.collect();
  region.discard();
  assert.equal(tracker.collect().byteLength, 64 * MIB);
  assert.ok(held().resident < before, 'neither the memory nor the copy is there');
}

/** Snapshots of every kind of memory that is not shared, where they can only compare. */
export function barredSnapshots(): void {
  assert.equal(testing().refuseUserfaultfd(1), 0);
  const random = seeded(60);
  for (const kind of KINDS.filter(({ name }) => !/shared/i.test(name))) {
    const { memory, bytes } = kind.make(4 * WASM);
    const pages = pageCountOf(bytes);
    for (let page = 0; page < pages; page += 2) touch(bytes, page, 1 + random(255));
    const before = Buffer.from(bytes);
    using tracker = new DirtyTracker(memory);
    using snapshot = Snapshot.take(memory);
    for (let round = 0; round < 10; round++) {
      const written = new Set<number>();
      for (let i = random(30); i > 0; i--) {
        const page = random(pages);
        const at = random(2) === 0 ? offsetOf(page, bytes) : lastByteOf(page, bytes);
        bytes[at] = random(256);
        written.add(page);
      }
      const differing = [...written]
        .filter((page) => {
          const [from, to] = [offsetOf(page, bytes), lastByteOf(page, bytes) + 1];
          return Buffer.compare(before.subarray(from, to), bytes.subarray(from, to)) !== 0;
        })
        .sort((a, b) => a - b);
      const what = `${kind.name}, round ${round}`;
      assert.deepEqual(pagesOf(snapshot.diff(), bytes), differing, what);
      assert.deepEqual(pagesOf(tracker.collect(), bytes), differing, what);
      assert.equal(snapshot.restore().pages, differing.length, what);
      assert.equal(Buffer.compare(before, bytes), 0, what);
      assert.equal(Buffer.compare(before, snapshot.read()), 0, what);
      assert.deepEqual(pagesOf(tracker.collect(), bytes), differing, what);
    }
  }
  const grows = new WebAssembly.Memory({ initial: 1 });
  using snapshot = Snapshot.take(grows);
  grows.grow(2);
  new Uint8Array(grows.buffer).fill(3);
  assert.equal(snapshot.diff().pageCount, 3 * WASM);
  snapshot.restore();
  assert.ok(new Uint8Array(grows.buffer).every((byte) => byte === 0));
  assert.equal(snapshot.diff().isEmpty, true);
}

/** In a process of its own: looking reads armed and missing pages, and must end. */
export function ofRegisteredMemory(): void {
  const region = Region.allocate({ bytes: 64 * PAGE });
  using uffd = Userfaultfd.open();
  for (let page = 0; page < 8; page++) touch(region.bytes, page, 1);
  uffd.register(region, ['missing', 'write-protect']);
  uffd.writeProtect(region);
  using tracker = new DirtyTracker(region, { engine: 'compare' });
  for (const page of [3, 40]) touch(region.bytes, page, 2);
  assert.deepEqual(pagesOf(tracker.collect()), [3, 40]);
  uffd.writeProtect(region);
  region.discard(0, 4 * PAGE);
  assert.deepEqual(pagesOf(tracker.collect()), [0, 1, 2, 3]);
  assert.deepEqual(pagesOf(tracker.collect()), []);
}
