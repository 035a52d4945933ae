// Memory that is loaded from a snapshot file as it is touched. Each function runs in a process of its own
// (test 69).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { binding } from '../../lib/binding.js';
import {
  DirtyTracker,
  LazyRestore,
  Region,
  Snapshot,
  SnapshotFile,
  SnapshotHistory,
  Userfaultfd,
  type LazyRestoreOptions,
  type SnapshotResolver,
  type Trackable,
} from '../../lib/index.js';
import { saveSnapshot } from '../../lib/snapshot-save.js';
import { assertSame, sourceOf } from '../support/snapshot-files.js';
import { testing, untilSomebodyWaitsAt } from '../support/testing.js';
import { MEMORIES } from './copy-on-write-kinds.js';
import { bytesOf, fillPages, sharedWasm } from './copy-on-write-support.js';
import { PAGE, pageRun, pagesOf, seeded, WASM_PAGE } from './dirty-support.js';
import {
  eventually,
  ready,
  resources,
  Toucher,
  userfaultfdDescriptors,
  withoutWatchdog,
} from './loop-support.js';

const BACKGROUND = 'load-before-first';
const CORRUPT = { code: 'ERR_UFFD_SNAPSHOT_CORRUPT' };
const BUSY = { code: 'ERR_UFFD_BUSY' };

/** A directory that goes with the process. */
function directory(): string {
  const made = fs.mkdtempSync(path.join(tmpdir(), 'uffd-lazy-'));
  process.on('exit', () => fs.rmSync(made, { recursive: true, force: true }));
  return made;
}

/** Pages with bytes of their own; every fifth is zero, and the fourth quarter has none. */
function content(byteLength: number): Buffer {
  const bytes = Buffer.alloc(byteLength);
  fillPages(bytes.subarray(0, (byteLength * 3) / 4));
  for (let page = 0; page < byteLength / PAGE; page += 5) bytes.fill(0, page * PAGE, (page + 1) * PAGE);
  return bytes;
}

/** A file of these memories. */
async function fileOf(...memories: Uint8Array[]): Promise<SnapshotFile> {
  const name = path.join(directory(), 'file');
  await saveSnapshot(sourceOf(...memories), name);
  return SnapshotFile.open(name);
}

function lazily(
  file: SnapshotFile,
  memory: Trackable | readonly Trackable[],
  resolver: string,
  options: Partial<LazyRestoreOptions> = {},
): LazyRestore {
  return file.restore(memory, { lazy: true, resolver: resolver as SnapshotResolver, ...options });
}

/** The background has not begun when it returns and does not until `releaseBackground()`. */
function lazilyAndHold(...args: Parameters<typeof lazily>): LazyRestore {
  testing().closeBarrier(BACKGROUND);
  const restore = lazily(...args);
  untilSomebodyWaitsAt(BACKGROUND);
  return restore;
}

function releaseBackground(): void {
  testing().openBarrier(BACKGROUND);
}

const pagesIn = (bytes: Uint8Array): number =>
  Array.from({ length: bytes.length / PAGE }, (_, page) => page).filter((page) => bytes[page * PAGE] !== 0)
    .length;

/** What is there before holds for nobody: pages are touched one by one, then the background comes. */
export async function everyKind(kind: string, resolver: string): Promise<void> {
  const { memory, bytes, pageSize } = MEMORIES[kind]!();
  const expected = content(bytes().length);
  const file = await fileOf(expected);
  bytes().fill(0xee);
  const restore = lazilyAndHold(file, memory, resolver);
  file.close();
  const random = seeded(7);
  const pages = new Set<number>();
  for (let i = 0; i < 40; i++) {
    const at = random(expected.length);
    pages.add(Math.floor(at / pageSize));
    assert.equal(bytes()[at], expected[at], `byte ${at}`);
  }
  bytes()[3] = 77;
  expected[3] = 77;
  pages.add(0);
  const touches = restore.touches().map(({ memory: index, offset }) => [index, offset / pageSize]);
  const withBytes = [...pages].filter((page) =>
    content(expected.length)
      .subarray(page * pageSize, (page + 1) * pageSize)
      .some((byte) => byte !== 0),
  );
  assert.deepEqual(
    touches.map(([, page]) => page).sort((a, b) => a! - b!),
    withBytes.sort((a, b) => a - b),
  );
  assert.ok(touches.every(([index]) => index === 0));
  assert.equal(restore.progress.filled, 0);
  releaseBackground();
  const progress = await restore.loaded;
  assert.equal(progress.touched, withBytes.length);
  assert.equal(progress.filled + progress.touched, progress.pages);
  assert.equal(progress.bytes, progress.pages * pageSize);
  if (pageSize === PAGE) assert.equal(progress.pages, pagesIn(content(expected.length)));
  assertSame(bytes(), expected);
  assert.equal(binding().mayFault(bytes()), false, 'plain memory again');
  assert.deepEqual(userfaultfdDescriptors(), []);
  restore.close();
}

export async function severalMemories(resolver: string): Promise<void> {
  const regions = [
    Region.allocate({ bytes: 64 * PAGE }),
    new WebAssembly.Memory({ initial: 0, maximum: 1 }),
    sharedWasm(4),
    Region.allocate({ bytes: 4 * 2 ** 20, backing: 'hugetlb' }),
  ];
  const views = regions.map((region) => new Uint8Array(region.buffer as ArrayBuffer));
  const before = views.map(({ length }) => content(length));
  const name = path.join(directory(), 'full');
  await saveSnapshot(sourceOf(...before), name);
  const after = before.map((bytes) => Buffer.from(bytes));
  for (const bytes of [after[0]!, after[2]!, after[3]!]) {
    bytes.fill(0x5a, 3 * PAGE, 7 * PAGE);
    bytes.fill(0, 11 * PAGE, 13 * PAGE);
  }
  await saveSnapshot(sourceOf(...after), `${name}2`, { parent: name });
  using chain = await SnapshotFile.open(`${name}2`);
  const restore = lazily(chain, regions, resolver);
  after.forEach((bytes, i) => assertSame(views[i]!, bytes, `memory ${i}, at once`));
  await restore.loaded;
  after.forEach((bytes, i) => assertSame(views[i]!, bytes, `memory ${i}`));
  assert.deepEqual(new Set(restore.touches().map(({ memory }) => memory)).has(1), false);
}

/** What was touched first is loaded first the next time. */
export async function replaysOrder(resolver: string): Promise<void> {
  const expected = Buffer.alloc(256 * PAGE);
  fillPages(expected);
  const file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length });
  const first = lazilyAndHold(file, region, resolver);
  for (const page of [200, 7, 8, 9, 100]) assert.equal(region.bytes[page * PAGE], expected[page * PAGE]);
  const order = first.touches();
  assert.deepEqual(
    order,
    [200, 7, 8, 9, 100].map((page) => ({ memory: 0, offset: page * PAGE })),
  );
  releaseBackground();
  await first.loaded;

  // One batch at a time: it waits before each, or after the reading of it.
  testing().closeBarrier('load-after-read');
  const second = lazily(file, region, resolver, { order: JSON.parse(JSON.stringify(order)) as typeof order });
  const step = (filled: number): void => {
    untilSomebodyWaitsAt('load-after-read');
    assert.equal(second.progress.filled, filled);
    testing().closeBarrier('load-before-batch');
    testing().openBarrier('load-after-read');
    untilSomebodyWaitsAt('load-before-batch');
    testing().closeBarrier('load-after-read');
    testing().openBarrier('load-before-batch');
  };
  step(0);
  step(1);
  step(4);
  untilSomebodyWaitsAt('load-after-read');
  assert.equal(second.progress.filled, 5);
  for (const { offset } of order) assert.equal(region.bytes[offset], expected[offset]);
  assert.equal(second.progress.touched, 0, 'they were there');
  testing().openBarrier('load-after-read');
  await second.loaded;
  assertSame(region.bytes, expected);
}

/** B20: whoever wants to know the memory as a whole gets it whole. */
export async function wholeForOthers(what: string, resolver: string): Promise<void> {
  const expected = content(256 * PAGE);
  const file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length });
  region.bytes.fill(0xee);
  const restore = lazily(file, region, resolver, { bytesPerSecond: PAGE });
  assert.equal(region.bytes[PAGE], expected[PAGE]);
  const { filled, pages } = restore.progress;
  assert.ok(filled < pages / 10, 'a tenth is loaded at most');
  const users: Record<string, () => void> = {
    snapshot: () => assertSame(Snapshot.take(region, { mode: 'copy' }).read(), expected),
    'copy-on-write': () => {
      const snapshot = Snapshot.take(region, { mode: 'copy-on-write' });
      assertSame(snapshot.read(), expected);
      snapshot.close();
    },
    'copy-on-write in-thread': () => {
      const snapshot = Snapshot.take(region, { mode: 'copy-on-write', resolver: 'in-thread' });
      assertSame(snapshot.read(), expected);
      snapshot.close();
    },
    history: () => {
      const history = new SnapshotHistory(region);
      assertSame(history.read(history.take()), expected);
      history.close();
    },
    tracker: () => assert.equal(new DirtyTracker(region, { engine: 'wp-async' }).collect().pageCount, 0),
    'tracker wp-sync': () =>
      assert.equal(new DirtyTracker(region, { engine: 'wp-sync' }).collect().pageCount, 0),
    'tracker compare': () => {
      const tracker = new DirtyTracker(region, { engine: 'compare' });
      assert.equal(tracker.collect().pageCount, 0);
    },
    register: () => {
      const uffd = Userfaultfd.open();
      uffd.register(region, 'write-protect');
      uffd.close();
    },
    move: () => {
      const target = Region.allocate({ bytes: expected.length });
      const uffd = Userfaultfd.open({ features: ['MOVE'] });
      uffd.register(target, 'missing');
      const there = { offset: 200 * PAGE, length: 8 * PAGE };
      // Pages of zeros are in no file.
      assert.equal(uffd.move(target, 0, region, there, { allowHoles: true }), there.length);
      assertSame(target.bytes.subarray(0, there.length), expected.subarray(there.offset, 208 * PAGE));
      region.bytes.set(target.bytes.subarray(0, there.length), there.offset);
      uffd.close();
    },
    'another restore': () => lazily(file, region, resolver).close(),
  };
  users[what]!();
  const done = restore.progress;
  assert.equal(done.filled + done.touched, done.pages);
  await restore.loaded;
  assertSame(region.bytes, expected);
}

/** B16: what is loaded under tracking stays clean, holes as well, and what is written afterwards is told. */
export async function tracked(kind: string, resolver: string): Promise<void> {
  const { memory, bytes, pageSize } = MEMORIES[kind]!();
  const expected = content(bytes().length);
  const file = await fileOf(expected);
  using tracker = new DirtyTracker(memory, { engine: 'wp-async' });
  const perPage = pageSize / PAGE;
  const dirty = (): number[] => [
    ...new Set(pagesOf(tracker.collect()).map((page) => Math.floor(page / perPage))),
  ];
  bytes()[(5 * pageSize) % expected.length] = 1;
  tracker.collect();
  bytes()[0] = 1;
  const restore = lazilyAndHold(file, memory, resolver);
  assert.deepEqual(dirty(), [0], 'what was written before');
  const last = expected.length / pageSize - 1;
  assert.equal(bytes()[7], expected[7]);
  assert.equal(bytes()[last * pageSize], expected[last * pageSize], 'a hole');
  assert.deepEqual(dirty(), [], 'read, while it is loaded');
  bytes()[pageSize + 1] = 99;
  bytes()[last * pageSize + 1] = 99;
  assert.deepEqual(dirty(), [1, last], 'written, while it is loaded');
  releaseBackground();
  await restore.loaded;
  assert.deepEqual(dirty(), [], 'loaded');
  bytes()[pageSize + 2] = 98;
  bytes()[(last - 1) * pageSize] = 98;
  assert.deepEqual(
    dirty(),
    [1, last - 1].sort((a, b) => a - b),
    'written after',
  );
  expected[pageSize + 1] = 99;
  expected[last * pageSize + 1] = 99;
  expected[pageSize + 2] = 98;
  expected[(last - 1) * pageSize] = 98;
  assertSame(bytes(), expected);
  assert.deepEqual(dirty(), []);
  // Kept registered as long as it is tracked, and no longer.
  const again = lazily(file, memory, resolver);
  await again.loaded;
  assert.deepEqual(dirty(), []);
  assertSame(bytes(), content(expected.length));
  const fd = fs.openSync(path.join(directory(), 'bytes'), 'w+');
  fs.writeSync(fd, Buffer.alloc(10, 5), 0, 10, 0);
  assert.equal(fs.readSync(fd, bytes(), last * pageSize, 10, 0), 10, 'a system call, into a hole');
  assert.deepEqual(dirty(), [last]);
  tracker.close();
  assert.equal(binding().mayFault(bytes()), false);
  assert.ok(userfaultfdDescriptors().length <= 1, 'that of all asynchronous tracking');
  assert.equal(bytes()[last * pageSize], 5);
}

/** 1,000 pages restored: none dirty. 10 written: 10 dirty (B16). */
export async function thousandPages(resolver: string): Promise<void> {
  const expected = Buffer.alloc(1000 * PAGE);
  fillPages(expected);
  const file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length });
  using tracker = new DirtyTracker(region, { engine: 'wp-async' });
  await lazily(file, region, resolver).loaded;
  assert.equal(tracker.collect().pageCount, 0);
  const pages = [0, 1, 2, 10, 99, 500, 501, 777, 998, 999];
  for (const page of pages) region.bytes[page * PAGE]! ^= 1;
  assert.deepEqual(pagesOf(tracker.collect()), pages);
}

/** Tracking that ends while it is loaded, is of a part, or is that of a snapshot. */
export async function otherTracking(resolver: string): Promise<void> {
  const expected = content(256 * PAGE);
  const file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length });
  region.bytes.fill(0xee);

  const ends = new DirtyTracker(region, { engine: 'wp-async' });
  const first = lazilyAndHold(file, region, resolver);
  assert.equal(region.bytes[PAGE], expected[PAGE]);
  ends.close();
  assert.equal(region.bytes[2 * PAGE], expected[2 * PAGE]);
  releaseBackground();
  await first.loaded;
  assertSame(region.bytes, expected);
  assert.equal(binding().mayFault(region.bytes), false);

  const part = new DirtyTracker(region.bytes.subarray(10 * PAGE, 20 * PAGE), { engine: 'wp-async' });
  await lazily(file, region, resolver).loaded;
  region.bytes[9 * PAGE] = 1;
  region.bytes[11 * PAGE] = 1;
  region.bytes[250 * PAGE] = 1;
  assert.deepEqual([...part.collect()], [{ offset: PAGE, length: PAGE }]);
  // The rest is anybody's, and stays theirs when that tracking ends.
  const whole = new DirtyTracker(region, { engine: 'wp-async' });
  region.bytes[9 * PAGE] = 2;
  region.bytes[12 * PAGE] = 2;
  assert.deepEqual(pagesOf(whole.collect()), [9, 12]);
  part.close();
  region.bytes[13 * PAGE] = 2;
  region.bytes[250 * PAGE] = 2;
  assert.deepEqual(pagesOf(whole.collect()), [13, 250]);
  whole.close();
  assert.equal(binding().mayFault(region.bytes), false);

  region.bytes.fill(0x11);
  const snapshot = Snapshot.take(region, { mode: 'copy' });
  const history = new SnapshotHistory(region);
  const entry = history.take();
  await lazily(file, region, resolver).loaded;
  assertSame(region.bytes, expected);
  // These know other bytes: what was loaded differs from them.
  const different = pageRun(0, 256);
  assert.deepEqual(pagesOf(snapshot.diff()), different);
  assert.deepEqual(pagesOf(history.diff(entry)), different);
  snapshot.restore();
  assert.ok(region.bytes.every((byte) => byte === 0x11));
  snapshot.close();
  history.close();
  assert.equal(binding().mayFault(region.bytes), false);
}

/** A history that was there before takes, compares and puts back the memory as it will be (B20). */
export async function historyWhileLoading(kind: string, resolver: string): Promise<void> {
  const { memory, bytes } = MEMORIES[kind]!();
  const expected = content(bytes().length);
  const file = await fileOf(expected);
  const history = new SnapshotHistory(memory, { engine: 'wp-async' });
  const empty = history.take();
  const restore = lazily(file, memory, resolver, { bytesPerSecond: PAGE });
  const loaded = history.take();
  assertSame(history.read(loaded), expected);
  await restore.loaded;
  assert.equal(history.diff(loaded).isEmpty, true);
  const again = lazily(file, memory, resolver, { bytesPerSecond: PAGE });
  history.restore(empty);
  await again.loaded;
  assert.ok(bytes().every((byte) => byte === 0));
  const last = lazily(file, memory, resolver, { bytesPerSecond: PAGE });
  assert.equal(history.diff(loaded).isEmpty, true);
  await last.loaded;
  history.close();
}

/** A snapshot that looks between its memory being handed over and being emptied learns of the load all the same. */
export async function looksBeforeEmptied(resolver: string): Promise<void> {
  const expected = content(16 * WASM_PAGE);
  const file = await fileOf(expected, expected);
  const memories = [sharedWasm(16), sharedWasm(16)];
  bytesOf(memories[1]!).fill(0xee);
  const control = new Int32Array(new SharedArrayBuffer(16));
  const worker = new Worker(
    `const { workerData: { dist, memory, control } } = require('node:worker_threads');
     const { Snapshot } = require(dist + '/lib/index.js');
     const { testing } = require(dist + '/test/support/testing.js');
     const tell = (at, value) => { Atomics.store(control, at, value); Atomics.notify(control, at); };
     const snapshot = Snapshot.take(memory, { mode: 'copy' });
     tell(0, 1);
     snapshot.restore();
     testing().openBarrier('load-between-emptying');
     Atomics.wait(control, 1, 0);
     tell(2, 1 + snapshot.diff().pageCount);`,
    { eval: true, workerData: { dist: path.join(__dirname, '..', '..'), memory: memories[1], control } },
  );
  worker.unref();
  testing().closeBarrier('put back');
  testing().closeBarrier('load-between-emptying');
  Atomics.wait(control, 0, 0);
  // It has waited for loads, and has its look before it when this one begins.
  untilSomebodyWaitsAt('put back');
  const conductor = new Worker(
    `const { testing, untilSomebodyWaitsAt } = require(require('node:worker_threads').workerData);
     untilSomebodyWaitsAt('load-between-emptying');
     testing().openBarrier('put back');`,
    { eval: true, workerData: path.join(__dirname, '..', 'support', 'testing.js') },
  );
  conductor.unref();
  await lazily(file, memories, resolver).loaded;
  Atomics.store(control, 1, 1);
  Atomics.notify(control, 1);
  Atomics.wait(control, 2, 0);
  assert.equal(Atomics.load(control, 2) - 1, expected.length / PAGE);
  assertSame(bytesOf(memories[1]!), expected);
}

/** The memories are emptied by an event of their own, which is not one that gives pages back, however late it is applied. */
export async function slowToBegin(resolver: string): Promise<void> {
  const expected = content(16 * WASM_PAGE);
  const file = await fileOf(expected);
  const memory = sharedWasm(16);
  const worker = new Worker(
    `const { workerData: dist } = require('node:worker_threads');
     const { testing, untilSomebodyWaitsAt } = require(dist + '/test/support/testing.js');
     untilSomebodyWaitsAt('server-before-lost');
     // Longer than calls wait for a loop.
     Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3000);
     testing().openBarrier('server-before-lost');`,
    { eval: true, workerData: path.join(__dirname, '..', '..') },
  );
  await new Promise((resolve) => worker.once('online', resolve));
  testing().closeBarrier('server-before-lost');
  const restore = lazily(file, memory, resolver);
  assertSame(bytesOf(memory), expected);
  await restore.loaded;
}

/** An alias that another thread makes while the load begins shows the bytes as well. */
export async function aliasMeanwhile(resolver: string): Promise<void> {
  const expected = Buffer.alloc(256 * PAGE);
  fillPages(expected);
  const file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length, backing: 'memfd' });
  testing().closeBarrier('alias-before-map');
  const worker = new Worker(
    `const { workerData: { index, handle }, parentPort } = require('node:worker_threads');
     const { Region } = require(index);
     parentPort.postMessage(Buffer.from(Region.attach(handle).alias().bytes));`,
    {
      eval: true,
      workerData: { index: path.join(__dirname, '..', '..', 'lib', 'index.js'), handle: region.handle },
    },
  );
  const seen = new Promise<Uint8Array>((resolve) => worker.once('message', resolve));
  untilSomebodyWaitsAt('alias-before-map');
  const restore = lazily(file, region, resolver, { bytesPerSecond: PAGE });
  testing().openBarrier('alias-before-map');
  assertSame(await seen, expected);
  await restore.loaded;
  assertSame(region.bytes, expected);
}

/** What could not be loaded is poisoned, and `discard()` or another restore makes it memory again. */
export async function heals(kind: string, resolver: string): Promise<void> {
  const { memory, bytes, pageSize } = MEMORIES[kind]!();
  const expected = Buffer.alloc(bytes().length);
  fillPages(expected);
  const bad = await damaged(expected, 'flipped');
  const good = await fileOf(expected);
  const poisoned = Math.floor((30 * PAGE) / pageSize) * pageSize;
  await assert.rejects(lazily(bad, memory, resolver).loaded, CORRUPT);
  const restore = lazilyAndHold(good, memory, resolver);
  assert.equal(bytes()[poisoned], expected[poisoned]);
  releaseBackground();
  await restore.loaded;
  assertSame(bytes(), expected);
  await assert.rejects(lazily(bad, memory, resolver).loaded, CORRUPT);
  (Region.isRegion(memory) ? memory : Region.from(memory)).discard();
  assert.ok(bytes().every((byte) => byte === 0));
  bytes()[poisoned] = 1;
}

/** Calls that read memory say that a load of it has failed, also one that fails while they wait for it. */
export async function readsLost(kind: string, resolver: string, when: string): Promise<void> {
  const { memory, bytes } = MEMORIES[kind]!();
  const expected = Buffer.alloc(bytes().length);
  fillPages(expected);
  bytes().set(expected);
  using before = Snapshot.take(memory, { mode: 'copy' });
  using history = new SnapshotHistory(memory);
  const entry = history.take();
  using tracker = new DirtyTracker(memory, { engine: 'compare' });
  const lost = { code: 'ERR_UFFD_LOST' };
  const reads: [string, () => unknown][] = [
    ['a snapshot', () => Snapshot.take(memory, { mode: 'copy' })],
    ['a snapshot, auto', () => Snapshot.take(memory)],
    [
      'a snapshot, copy on write',
      () => Snapshot.take(memory, { mode: 'copy-on-write', resolver: 'in-thread' }),
    ],
    ['diff of a snapshot', () => before.diff()],
    ['an entry', () => history.take()],
    ['the first entry', () => new SnapshotHistory(memory).take()],
    ['diff of an entry', () => history.diff(entry)],
    ['a tracker that compares', () => new DirtyTracker(memory, { engine: 'compare' })],
    ['its look', () => tracker.collect()],
  ];
  for (const [name, read] of reads) {
    const bad = await damaged(expected, 'flipped');
    // At this rate it comes to the damage only when somebody waits for it.
    const restore = lazily(bad, memory, resolver, when === 'meanwhile' ? { bytesPerSecond: PAGE } : {});
    if (when === 'before') await assert.rejects(restore.loaded, CORRUPT, name);
    assert.throws(read, lost, name);
    await assert.rejects(restore.loaded, CORRUPT, name);
  }
}

/** Calls that overwrite all of it make it memory again, and it is as they say. */
export async function overwritesLost(kind: string, resolver: string, how: string): Promise<void> {
  const { memory, bytes } = MEMORIES[kind]!();
  const expected = Buffer.alloc(bytes().length);
  fillPages(expected);
  // Pages that the file has, and that are zeros in what is put back.
  expected.fill(0, 31 * PAGE, 40 * PAGE);
  bytes().set(expected);
  const inFile = Buffer.alloc(bytes().length);
  fillPages(inFile, 9);
  const bad = await damaged(inFile, 'flipped');
  const good = await fileOf(expected);
  using snapshot = Snapshot.take(memory, { mode: 'copy' });
  using captured = Snapshot.take(memory);
  await captured.ready;
  using history = new SnapshotHistory(memory);
  const entry = history.take();
  using tracker = new DirtyTracker(memory);
  for (let round = 0; round < 2; round++) {
    await assert.rejects(lazily(bad, memory, resolver).loaded, CORRUPT);
    if (how === 'file') await good.restore(memory);
    else if (how === 'snapshot') snapshot.restore();
    else if (how === 'captured') captured.restore();
    else history.restore(entry);
    assertSame(bytes(), expected, how);
    tracker.collect();
    bytes()[30 * PAGE]! += 1;
    assert.deepEqual([...tracker.collect()].length, 1);
    bytes()[30 * PAGE]! -= 1;
    assert.equal(history.diff(history.take(), entry).isEmpty, true);
    assert.equal(snapshot.diff().isEmpty, true);
  }
  if (bytes().buffer instanceof SharedArrayBuffer) return;
  // What would be zeros next to what is put back is left as it is.
  await assert.rejects(lazily(bad, memory, resolver).loaded, CORRUPT);
  const part = await fileOf(Buffer.alloc(100, 5));
  await assert.rejects(part.restore(bytes().subarray(30 * PAGE + 8, 30 * PAGE + 108)), {
    code: 'ERR_UFFD_LOST',
  });
}

/** A file that cannot be loaded under tracking: the tracker goes on, and says too much rather than too little. */
export async function damagedUnderTracking(resolver: string): Promise<void> {
  const expected = Buffer.alloc(64 * PAGE);
  fillPages(expected);
  const file = await damaged(expected, 'flipped');
  const region = Region.allocate({ bytes: expected.length });
  using tracker = new DirtyTracker(region, { engine: 'wp-async' });
  await assert.rejects(lazily(file, region, resolver).loaded, CORRUPT);
  assert.equal(tracker.collect().pageCount, 64);
  region.discard();
  tracker.collect();
  region.bytes[5 * PAGE] = 1;
  assert.deepEqual(pagesOf(tracker.collect()), [5]);
}

/** A memory of two mappings: a part of it was tracked when the rest came. */
export async function twoMappings(tracking: string, resolver: string): Promise<void> {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 6 });
  const tracker = new DirtyTracker(memory);
  memory.grow(2);
  fillPages(bytesOf(memory));
  if (tracking === 'looked') tracker.collect();
  if (tracking === 'closed') tracker.close();
  const expected = Buffer.from(bytesOf(memory));
  const file = await fileOf(expected);
  bytesOf(memory).fill(0xee);
  const restore = lazily(file, memory, resolver);
  const { pages, filled, touched } = await restore.loaded;
  assert.equal(filled + touched, pages);
  assertSame(bytesOf(memory), expected);
}

/** Memory that grew since it was last looked at, and is loaded then: whoever looks next has it whole. */
export async function grewBefore(who: string, resolver: string): Promise<void> {
  const memory = sharedWasm(1, 4);
  const users = {
    tracker: () => {
      const tracker = new DirtyTracker(memory, { engine: 'wp-async' });
      return () => assert.ok(tracker.collect().byteLength >= 2 * WASM_PAGE, 'what grew is reported');
    },
    snapshot: () => {
      const snapshot = Snapshot.take(memory, { mode: 'copy' });
      return () => assert.ok(snapshot.diff().pageCount > 0);
    },
    history: () => {
      const history = new SnapshotHistory(memory);
      history.take();
      return () => assertSame(history.read(history.take()), bytesOf(memory));
    },
  };
  const look = users[who as keyof typeof users]();
  memory.grow(2);
  const expected = content(3 * WASM_PAGE);
  const file = await fileOf(expected);
  const restore = lazily(file, memory, resolver, { bytesPerSecond: PAGE });
  look();
  await restore.loaded;
  assertSame(bytesOf(memory), expected);
}

/** A compare tracker that was there before reads what is loaded, and not holes. */
export async function comparedBefore(resolver: string): Promise<void> {
  const expected = content(64 * PAGE);
  const file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length });
  region.bytes.set(expected);
  region.bytes[7 * PAGE]! ^= 255;
  const tracker = new DirtyTracker(region, { engine: 'compare' });
  const restore = lazily(file, region, resolver, { bytesPerSecond: PAGE });
  assert.deepEqual(pagesOf(tracker.collect()), [7]);
  await restore.loaded;
}

/** Memory that something else holds is left as it is. */
export async function heldByOthers(resolver: string): Promise<void> {
  const file = await fileOf(content(64 * PAGE), content(64 * PAGE));
  const regions = [Region.allocate({ bytes: 64 * PAGE }), Region.allocate({ bytes: 64 * PAGE })];
  for (const { bytes } of regions) bytes.fill(0xee);
  using uffd = Userfaultfd.open();
  uffd.register(regions[1]!, 'write-protect');
  assert.throws(() => lazily(file, regions, resolver), BUSY);
  uffd.unregister(regions[1]!);
  const tracker = new DirtyTracker(regions[1]!, { engine: 'wp-sync' });
  assert.throws(() => lazily(file, regions, resolver), BUSY);
  assert.ok(regions.every(({ bytes }) => bytes.every((byte) => byte === 0xee)));
  tracker.close();
  await lazily(file, regions, resolver).loaded;
  assertSame(regions[1]!.bytes, content(64 * PAGE));
}

/** Pages that are given back read as zero from then on, also when their bytes are on their way (B23). */
export async function discards(resolver: string): Promise<void> {
  const expected = Buffer.alloc(256 * PAGE);
  fillPages(expected);
  const file = await fileOf(expected);
  for (const memory of [Region.allocate({ bytes: expected.length }), Region.from(sharedWasm(16))]) {
    testing().closeBarrier('load-after-read');
    const restore = lazily(file, memory, resolver);
    untilSomebodyWaitsAt('load-after-read');
    // Of the batch that was read, and behind it.
    for (const page of [3, 4, 100]) {
      memory.discard(page * PAGE, PAGE);
      expected.fill(0, page * PAGE, (page + 1) * PAGE);
    }
    assert.equal(memory.bytes[4 * PAGE], 0);
    testing().openBarrier('load-after-read');
    await restore.loaded;
    assertSame(memory.bytes, expected);
    fillPages(expected);
  }
}

/** The same of a page that a thread has read for itself. */
export async function discardsUnderTouch(resolver: string): Promise<void> {
  withoutWatchdog();
  const expected = Buffer.alloc(64 * PAGE);
  fillPages(expected);
  const file = await fileOf(expected);
  const memory = sharedWasm(4);
  const region = Region.from(memory);
  const restore = lazilyAndHold(file, memory, resolver);
  const toucher = new Toucher(bytesOf(memory), { access: 'read', offset: 9 * PAGE });
  const barrier = resolver === 'loop' ? 'server-after-load' : 'touch-after-load';
  testing().closeBarrier(barrier);
  toucher.go();
  untilSomebodyWaitsAt(barrier);
  if (resolver === 'in-thread') {
    // The loop is free, so it knows when this returns.
    region.discard(9 * PAGE, PAGE);
    testing().openBarrier(barrier);
  } else {
    const discarder = new Worker(
      `const { workerData: [index, memory] } = require('node:worker_threads');
       require(index).Region.from(memory).discard(${9 * PAGE}, ${PAGE});`,
      { eval: true, workerData: [path.join(__dirname, '..', '..', 'lib', 'index.js'), memory] },
    );
    const gone = new Promise((resolve) => discarder.once('exit', resolve));
    // It sleeps until the loop, which is held, has read of it.
    await eventually(() =>
      fs.readdirSync('/proc/self/task').some((tid) => {
        try {
          return fs.readFileSync(`/proc/self/task/${tid}/wchan`, 'utf8').includes('userfaultfd_event');
        } catch {
          return false;
        }
      }),
    );
    testing().openBarrier(barrier);
    await gone;
  }
  toucher.untilDone();
  // What it read may be from before; what is there is from after.
  assert.equal(region.bytes[9 * PAGE], 0);
  releaseBackground();
  await restore.loaded;
  expected.fill(0, 9 * PAGE, 10 * PAGE);
  assertSame(region.bytes, expected);
}

/** System calls on memory that is not there yet. */
export async function systemCalls(resolver: string): Promise<void> {
  const expected = content(64 * PAGE);
  const file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length });
  const restore = lazilyAndHold(file, region, resolver);
  const out = path.join(directory(), 'out');
  const fd = fs.openSync(out, 'w+');
  if (resolver === 'loop') {
    assert.equal(
      await promisify(fs.write)(fd, region.bytes).then(({ bytesWritten }) => bytesWritten),
      expected.length,
    );
    assertSame(fs.readFileSync(out), expected);
    fs.readSync(fd, region.bytes, PAGE, 10, 0);
    expected.copy(expected, PAGE, 0, 10);
  } else {
    assert.throws(() => fs.writeSync(fd, region.bytes, 6 * PAGE, PAGE), { code: 'EFAULT' });
    fs.writeSync(fd, Buffer.alloc(10, 3), 0, 10, 0);
    assert.throws(() => fs.readSync(fd, region.bytes, 7 * PAGE, 10, 0), { code: 'EFAULT' });
    // Once a page is there it is as any other.
    assert.equal(region.bytes[7 * PAGE + 20], expected[7 * PAGE + 20]);
    assert.equal(fs.readSync(fd, region.bytes, 7 * PAGE, 10, 0), 10);
    expected.fill(3, 7 * PAGE, 7 * PAGE + 10);
  }
  releaseBackground();
  await restore.loaded;
  assertSame(region.bytes, expected);
  assert.equal(fs.writeSync(fd, region.bytes, 0, expected.length, 0), expected.length);
  assertSame(fs.readFileSync(out), expected);
}

async function damaged(expected: Buffer, how: string): Promise<SnapshotFile> {
  const file = await fileOf(expected);
  const index = expected.subarray(0, 30 * PAGE).length / PAGE;
  if (how === 'truncated') {
    fs.truncateSync(file.path!, PAGE * (1 + index));
  } else {
    const fd = fs.openSync(file.path!, 'r+');
    fs.writeSync(fd, Buffer.of(0), 0, 1, PAGE * (1 + index) + 17);
    fs.closeSync(fd);
  }
  return file;
}

/** A file that is not what it was when it was opened (B3): the program learns it, and never reads a zero. */
export async function damage(how: string, resolver: string): Promise<void> {
  const expected = Buffer.alloc(256 * PAGE);
  fillPages(expected);
  const file = await damaged(expected, how);
  const region = Region.allocate({ bytes: expected.length });
  const restore = lazilyAndHold(file, region, resolver);
  // The digests of all pages are at the end of the file.
  const whole = how === 'truncated' ? 0 : 5;
  assertSame(region.bytes.subarray(0, whole * PAGE), expected.subarray(0, whole * PAGE));
  releaseBackground();
  await assert.rejects(restore.loaded, { ...CORRUPT, path: file.path });
  assert.throws(() => restore.close(), CORRUPT);
  assertSame(region.bytes.subarray(0, whole * PAGE), expected.subarray(0, whole * PAGE));
  assert.deepEqual(userfaultfdDescriptors(), []);
  // What is missing is poisoned: a system call says so, a touch would kill.
  const out = fs.openSync(path.join(directory(), 'out'), 'w');
  assert.throws(() => fs.writeSync(out, region.bytes, 30 * PAGE, PAGE), { code: 'EFAULT' });
  assert.throws(() => fs.writeSync(out, region.bytes, 255 * PAGE, PAGE), { code: 'EFAULT' });
  region.discard();
  const again = await fileOf(expected);
  await lazily(again, region, resolver).loaded;
  assertSame(region.bytes, expected);
}

/** Whoever touches what cannot be loaded dies by SIGBUS, before the background comes there. */
export async function touchesDamage(how: string, resolver: string): Promise<void> {
  const expected = Buffer.alloc(64 * PAGE);
  fillPages(expected);
  const file = await damaged(expected, how);
  const region = Region.allocate({ bytes: expected.length });
  lazilyAndHold(file, region, resolver);
  ready();
  console.error(region.bytes[30 * PAGE]);
}

/** During the end of the process threads still run, and what one writes to a file is right (B3). */
export async function exitHalfWay(how: string, resolver: string, out: string): Promise<void> {
  const expected = content(256 * PAGE);
  const file = await fileOf(expected);
  const memory = sharedWasm(16);
  const control = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(
    `const { workerData: { memory, control, out } } = require('node:worker_threads');
     const bytes = new Uint8Array(memory.buffer);
     Atomics.store(control, 0, 1);
     Atomics.notify(control, 0);
     Atomics.wait(control, 0, 1);
     require('node:fs').writeFileSync(out, Buffer.from(bytes));
     Atomics.store(control, 1, 1);
     Atomics.notify(control, 1);`,
    { eval: true, workerData: { memory, control, out } },
  );
  worker.unref();
  Atomics.wait(control, 0, 0);
  const restore = lazilyAndHold(file, memory, resolver);
  assert.equal(bytesOf(memory)[PAGE], expected[PAGE]);
  assert.equal(restore.progress.filled, 0);
  process.on('exit', () => {
    Atomics.store(control, 0, 2);
    Atomics.notify(control, 0);
    Atomics.wait(control, 1, 0);
  });
  ready();
  if (how === 'exit') process.exit(0);
  if (how === 'throw') throw new Error('thrown and not caught');
}

/** The Worker that began it ends, and its object is forgotten: the memory is loaded all the same. */
export async function ownerGoes(how: string, resolver: string): Promise<void> {
  const expected = content(256 * PAGE);
  const file = await fileOf(expected);
  const memory = sharedWasm(16);
  if (how === 'worker') {
    testing().closeBarrier(BACKGROUND);
    const worker = new Worker(
      `const { workerData: { index, memory, name, resolver } } = require('node:worker_threads');
       const { SnapshotFile } = require(index);
       SnapshotFile.open(name).then((file) => { file.restore(memory, { lazy: true, resolver }); process.exit(); });`,
      {
        eval: true,
        workerData: {
          index: path.join(__dirname, '..', '..', 'lib', 'index.js'),
          memory,
          name: file.path,
          resolver,
        },
      },
    );
    await new Promise((resolve) => worker.once('exit', resolve));
  } else {
    lazilyAndHold(file, memory, resolver);
    file.close();
    for (let i = 0; i < 5; i++) {
      global.gc!();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  assert.equal(bytesOf(memory)[PAGE], expected[PAGE]);
  releaseBackground();
  assertSame(bytesOf(memory), expected);
  await eventually(() => userfaultfdDescriptors().length === 0);
  assertSame(bytesOf(memory), expected);
}

/** The memory goes while it is loaded. */
export async function memoryGoes(how: string, resolver: string): Promise<void> {
  const expected = content(256 * PAGE);
  const file = await fileOf(expected);
  if (how === 'closed') {
    const region = Region.allocate({ bytes: expected.length });
    const restore = lazilyAndHold(file, region, resolver);
    region.close();
    releaseBackground();
    await assert.rejects(restore.loaded, { code: 'ERR_UFFD_CLOSED' });
    restore.close();
  } else {
    let memory: WebAssembly.Memory | undefined = new WebAssembly.Memory({ initial: 16 });
    lazilyAndHold(file, memory, resolver);
    memory = undefined;
    const before = resources();
    for (let i = 0; i < 10; i++) {
      global.gc!();
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(before);
    releaseBackground();
  }
  await eventually(() => userfaultfdDescriptors().length === 0);
}

/** At a rate at which a batch would take days, when none of it is left to load. */
export async function nothingLeft(
  how: string,
  backing: 'anonymous' | 'memfd',
  resolver: string,
): Promise<void> {
  const expected = content(256 * PAGE);
  const file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length, backing });
  testing().closeBarrier('load-before-batch');
  const restore = lazily(file, region, resolver, { bytesPerSecond: 1 });
  untilSomebodyWaitsAt('load-before-batch');
  // From here on it waits for its turn.
  testing().openBarrier('load-before-batch');
  if (how === 'closed') {
    region.close();
    await assert.rejects(restore.loaded, { code: 'ERR_UFFD_CLOSED' });
  } else {
    if (how === 'discarded') region.discard();
    else assertSame(region.bytes, expected);
    assert.equal((await restore.loaded).filled, 0);
    assertSame(region.bytes, how === 'discarded' ? Buffer.alloc(expected.length) : expected);
  }
  await eventually(() => userfaultfdDescriptors().length === 0);
}

/** A child gets nothing that is not loaded, and starting one waits for nobody. */
export async function children(resolver: string): Promise<void> {
  const expected = content(256 * PAGE);
  const file = await fileOf(expected);
  const memory = sharedWasm(16);
  const restore = lazilyAndHold(file, memory, resolver);
  for (let i = 0; i < 5; i++) assert.equal(spawnSync(process.execPath, ['-e', '']).status, 0);
  releaseBackground();
  await restore.loaded;
  assertSame(bytesOf(memory), expected);
}

export async function refuses(): Promise<void> {
  const expected = content(64 * PAGE);
  let file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length });
  region.bytes.fill(0xee);
  const bad = (options: unknown, error: { code: string }): void => {
    assert.throws(() => file.restore(region, options as LazyRestoreOptions), error);
  };
  const type = { code: 'ERR_INVALID_ARG_TYPE' };
  const value = { code: 'ERR_INVALID_ARG_VALUE' };
  const range = { code: 'ERR_OUT_OF_RANGE' };
  bad({ lazy: 1 }, type);
  bad({ lazy: true, resolver: 'fast' }, value);
  bad({ lazy: true, signal: new AbortController().signal }, value);
  bad({ lazy: true, bytesPerSecond: 0 }, range);
  bad({ lazy: true, order: 7 }, type);
  bad({ lazy: true, order: [7] }, type);
  bad({ lazy: true, order: [{ memory: 1, offset: 0 }] }, range);
  bad({ lazy: true, order: [{ memory: 0, offset: 5 }] }, range);
  bad({ lazy: true, order: [{ memory: 0, offset: 64 * PAGE }] }, range);
  const into = (memory: Trackable | Trackable[], error: { code: string }): void => {
    assert.throws(() => file.restore(memory, { lazy: true }), error);
  };
  into(Region.allocate({ bytes: 63 * PAGE }), { code: 'ERR_UFFD_SNAPSHOT_LENGTH' });
  into([region, region], value);
  into(new ArrayBuffer(64 * PAGE), value);
  into(Region.allocate({ bytes: 64 * PAGE, backing: 'memfd', mapping: 'private' }), value);
  const shared = Region.allocate({ bytes: 64 * PAGE, backing: 'memfd' });
  using alias = shared.alias();
  into(shared, value);
  alias.close();
  const closed = Region.allocate({ bytes: 64 * PAGE });
  closed.close();
  into(closed, { code: 'ERR_UFFD_CLOSED' });
  // Code that runs while the options are looked at changes what was to be restored.
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 5 });
  new Uint8Array(memory.buffer).fill(0xee);
  const whileAsked = (change: () => void, error: { code: string }): void => {
    const order = {
      *[Symbol.iterator]() {
        change();
        yield { memory: 0, offset: 0 };
      },
    };
    assert.throws(() => file.restore(memory, { lazy: true, order }), error);
    assert.ok(new Uint8Array(memory.buffer, 0, 4 * WASM_PAGE).every((byte) => byte === 0xee));
  };
  whileAsked(() => memory.grow(1), { code: 'ERR_UFFD_SNAPSHOT_LENGTH' });
  const other = file;
  file = await fileOf(expected);
  whileAsked(() => file.close(), { code: 'ERR_UFFD_CLOSED' });
  file = other;
  assert.ok(
    region.bytes.every((byte) => byte === 0xee),
    'untouched',
  );
  assert.deepEqual(await file.restore(region, { lazy: false }), { pages: 64, bytes: 64 * PAGE });
  file.close();
  into(region, { code: 'ERR_UFFD_CLOSED' });
  assert.throws(() => new (LazyRestore as unknown as new () => unknown)(), {
    code: 'ERR_ILLEGAL_CONSTRUCTOR',
  });
}

/** Without the privilege `loop` says so and touches nothing; `in-thread` needs none. */
export async function ordinaryUser(): Promise<void> {
  const expected = content(64 * PAGE);
  const file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length });
  region.bytes.fill(0xee);
  assert.throws(
    () => lazily(file, region, 'loop'),
    (error: { code: string; hint: string }) => error.code === 'EPERM' && error.hint.includes("'in-thread'"),
  );
  assert.ok(
    region.bytes.every((byte) => byte === 0xee),
    'untouched',
  );
  const restore = lazily(file, region, 'in-thread');
  assertSame(region.bytes, expected);
  await restore.loaded;
}

/** Nothing is left of many, on every way it can end. */
export async function leavesNothing(resolver: string): Promise<void> {
  const expected = content(256 * PAGE);
  const file = await fileOf(expected);
  const region = Region.allocate({ bytes: expected.length });
  const round = async (): Promise<void> => {
    await lazily(file, region, resolver).loaded;
    lazily(file, region, resolver).close();
    using kept = lazily(file, region, resolver, { bytesPerSecond: 1 });
    assert.equal(region.bytes[PAGE], expected[PAGE]);
    assert.ok(kept.progress.filled <= kept.progress.pages);
  };
  for (let i = 0; i < 5; i++) await round();
  const before = resources();
  for (let i = 0; i < 40; i++) await round();
  await eventually(() => {
    const { descriptors, threads } = resources();
    return descriptors <= before.descriptors && threads <= before.threads;
  });
}

/** Main thread, Workers, pool threads and system calls at once; the writes of each stay. */
export async function everybody(resolver: string): Promise<void> {
  const mebibytes = process.env['UFFD_TEST_LAZY_MIB'] ?? '32';
  const memory = sharedWasm((Number(mebibytes) * 2 ** 20) / WASM_PAGE);
  const bytes = bytesOf(memory);
  const expected = Buffer.alloc(bytes.length);
  randomFillSync(expected);
  for (let page = 0; page < bytes.length / PAGE; page += 7) expected.fill(0, page * PAGE, (page + 1) * PAGE);
  const name = path.join(directory(), 'file');
  await saveSnapshot(sourceOf(expected), name);
  const file = await SnapshotFile.open(name);
  const SEEN = 3;
  const workers = [0, 1].map((id) => {
    const control = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(
      `const { workerData: { memory, control, id, seed } } = require('node:worker_threads');
       const { createHash } = require('node:crypto');
       const bytes = new Uint8Array(memory.buffer);
       Atomics.wait(control, 0, 0);
       let state = seed;
       for (let i = 0; i < 4000; i++) {
         state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
         const page = (state >>> 4) % (bytes.length / ${PAGE});
         // A byte of its own in each page.
         bytes[page * ${PAGE} + 100 + id] = 200 + id;
       }
       Atomics.store(control, 1, 1);
       Atomics.notify(control, 1);`,
      { eval: true, workerData: { memory, control, id, seed: 99 + id } },
    );
    worker.unref();
    return control;
  });
  const wrote = [0, 1].map((id) => {
    const pages = new Set<number>();
    for (let state = 99 + id, i = 0; i < 4000; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      pages.add((state >>> 4) % (bytes.length / PAGE));
    }
    return pages;
  });
  const restore = lazily(file, memory, resolver);
  for (const control of workers) {
    Atomics.store(control, 0, 1);
    Atomics.notify(control, 0);
  }
  const random = seeded(SEEN);
  const isOwn = (at: number): boolean => at % PAGE === 100 || at % PAGE === 101;
  const out = path.join(directory(), 'out');
  const fd = fs.openSync(out, 'w+');
  for (let i = 0; i < 2000; i++) {
    const at = random(bytes.length);
    if (!isOwn(at)) assert.equal(bytes[at], expected[at], `byte ${at}`);
    if (resolver === 'loop' && i % 20 === 0) {
      const start = random(bytes.length - 3 * PAGE);
      await promisify(fs.write)(fd, bytes, start, 2 * PAGE, 0);
      const read = fs.readFileSync(out);
      for (let j = 0; j < read.length; j += 37) {
        if (!isOwn(start + j)) assert.equal(read[j], expected[start + j], `byte ${start + j} by fs.write`);
      }
    }
  }
  for (const control of workers) Atomics.wait(control, 1, 0);
  await restore.loaded;
  for (const [id, pages] of wrote.entries())
    for (const page of pages) expected[page * PAGE + 100 + id] = 200 + id;
  assertSame(bytes, expected);
}
