// What only the engine `wp-sync` does: it knows who wrote, its loop may be held, it needs privilege for
// what the kernel writes, and it runs where wp-async cannot.

import assert from 'node:assert/strict';
import { openSync, readSync } from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { DirtyTracker, Region, Snapshot, type Trackable } from '../../lib/index.js';
import { measureWrites } from '../../lib/testing.js';
import { kernelThreadId, testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';
import { KINDS, PAGE, pageRun, pagesOf, resizableBuffer, touch, WASM } from './dirty-support.js';
import { resources, sharedRegion, Toucher, until, withoutWatchdog } from './loop-support.js';

const EINVAL = 22;
const ENOTTY = 25;

/** UFFD_FEATURE_*. */
export const FEATURES = {
  PAGEFAULT_FLAG_WP: 1n << 0n,
  THREAD_ID: 1n << 8n,
  EXACT_ADDRESS: 1n << 11n,
  WP_UNPOPULATED: 1n << 13n,
  WP_ASYNC: 1n << 15n,
};

/** Kernels by what they lack. */
export const OLD_KERNELS: Record<string, () => void> = {
  'Linux 6.6': () => {
    testing().withholdFeatures(FEATURES.WP_ASYNC);
    assert.equal(testing().refuseIoctl('PAGEMAP_SCAN', ENOTTY), 0);
  },
  'Linux 6.3': () => {
    testing().withholdFeatures(FEATURES.WP_ASYNC | FEATURES.WP_UNPOPULATED);
    assert.equal(testing().refuseIoctl('PAGEMAP_SCAN', ENOTTY), 0);
  },
  'Linux 5.13': () => {
    testing().withholdFeatures(FEATURES.WP_ASYNC | FEATURES.WP_UNPOPULATED | FEATURES.EXACT_ADDRESS);
    assert.equal(testing().refuseIoctl('PAGEMAP_SCAN', ENOTTY), 0);
    assert.equal(testing().refusePopulateRead(EINVAL), 0);
    testing().hideProtection(true);
  },
};

function track(memory: Trackable | Trackable[]): DirtyTracker {
  return new DirtyTracker(memory, { engine: 'wp-sync' });
}

interface CodedWarning extends Error {
  code?: string;
}

/** What the process is told by whoever falls back. */
function warnings(): CodedWarning[] {
  const all: CodedWarning[] = [];
  process.on('warning', (warning) => all.push(warning));
  return all;
}

async function turns(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** A writer in a fault that the loop has noted and not yet ended, and a collect meanwhile. */
export function collectBetweenNoteAndUnprotect(): void {
  withoutWatchdog();
  const region = sharedRegion(16 * PAGE);
  using tracker = track(region);
  const writer = new Toucher(region.bytes, { offset: 3 * PAGE, value: 7 });
  testing().closeBarrier('written-after-note');
  writer.go();
  untilSomebodyWaitsAt('written-after-note');
  untilAsleepInFault(writer.tid);
  const control = new Int32Array(new SharedArrayBuffer(4));
  // Lets the loop go on once this thread waits for it. This thread does it itself when it never waits.
  new Worker(path.join(__dirname, 'wp-sync-conductor.js'), { workerData: { control } }).unref();
  until(() => Atomics.load(control, 0) === 1);
  Atomics.store(control, 0, 2);
  const first = tracker.collect();
  const copy = region.bytes.slice();
  testing().openBarrier('written-after-note');
  writer.untilDone();
  const second = tracker.collect();
  assert.equal(region.bytes[3 * PAGE], 7);
  assert.ok(first.has(3 * PAGE) || second.has(3 * PAGE), 'the write is in one of the two');
  if (copy[3 * PAGE] !== 7) assert.ok(second.has(3 * PAGE), 'what came after the copy is in the second');
  writer.go(2);
  writer.untilDone(2);
  assert.deepEqual(pagesOf(tracker.collect()), [3], 'the page was armed again');
  writer.end();
}

/** A collect that cannot arm a page, as it was mapped anew, while the loop notes what others write. */
export function mappedAnewUnderWriters(): void {
  withoutWatchdog();
  const written = 1000;
  const region = sharedRegion(2 * written * PAGE);
  using tracker = track(region);
  const writers = [0, 1].map(
    (first) =>
      new Toucher(region.bytes, { offset: (written + first) * PAGE, stride: 2 * PAGE, count: written / 2 }),
  );
  for (let round = 1; round <= 50; round++) {
    for (let page = 0; page < 64; page++) region.bytes[page * PAGE] = round;
    assert.equal(testing().mapAnew(region.bytes.subarray(8 * PAGE, 9 * PAGE)), undefined);
    for (const writer of writers) writer.go(round);
    assert.ok(tracker.collect().has(8 * PAGE));
    for (const writer of writers) writer.untilDone(round);
  }
  for (const writer of writers) writer.end();
}

/** A writer whose fault nobody has read. */
export function closeFreesWriter(how: string): void {
  withoutWatchdog();
  const region = sharedRegion(16 * PAGE);
  testing().closeBarrier('loop-before-poll');
  const tracker = track(region);
  const writer = new Toucher(region.bytes, { offset: 3 * PAGE, value: 7 });
  writer.go();
  untilAsleepInFault(writer.tid);
  if (how === 'exit') {
    console.log('READY');
    process.exit(0);
  }
  tracker.close();
  writer.untilDone();
  assert.equal(region.bytes[3 * PAGE], 7);
  until(() => resources().loops === 0);
  writer.end();
}

/** The loop ends with an error, the watchdog releases its userfaultfd. */
export function losesItsLoop(): void {
  const region = Region.allocate({ bytes: 64 * PAGE });
  using tracker = track(region);
  touch(region.bytes, 9, 1);
  testing().injectResolveError(5);
  touch(region.bytes, 3, 1);
  // Not told any more.
  touch(region.bytes, 40, 1);
  assert.deepEqual(pagesOf(tracker.peek()), pageRun(0, 64), 'nobody knows, so everything');
  assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, 64));
  assert.deepEqual(pagesOf(tracker.collect()), []);
  touch(region.bytes, 5, 1);
  assert.deepEqual(pagesOf(tracker.collect()), [5], 'it goes on with a new one');
}

/** Content and protection gone without a word (B2, B10, B11). */
export function lostProtection(): void {
  const region = Region.allocate({ bytes: 64 * PAGE });
  region.bytes.fill(1);
  using tracker = track(region);
  touch(region.bytes, 1, 2);
  assert.equal(testing().dropPages(region.bytes.subarray(8 * PAGE, 12 * PAGE)), undefined);
  touch(region.bytes, 9, 3);
  assert.deepEqual(pagesOf(tracker.peek()), [1, 8, 9, 10, 11]);
  assert.deepEqual(pagesOf(tracker.collect()), [1, 8, 9, 10, 11]);
  assert.deepEqual(pagesOf(tracker.collect()), []);
  for (const page of [1, 8, 11]) touch(region.bytes, page, 4);
  assert.deepEqual(pagesOf(tracker.collect()), [1, 8, 11], 'they are armed again');
  assert.equal(testing().remap(region.bytes, PAGE), undefined);
  touch(region.bytes, 20, 4);
  assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, 64), 'mapped anew');
  touch(region.bytes, 21, 4);
  assert.deepEqual(pagesOf(tracker.collect()), [21]);
}

export function tellsWhoWrote(): void {
  const region = sharedRegion(64 * PAGE);
  const other = Region.allocate({ bytes: 4 * PAGE });
  using tracker = track([region, other]);
  using consumer = tracker.consumer();
  const [left, right] = [5, 9].map((page) => new Toucher(region.bytes, { offset: page * PAGE + 3 }));
  left!.go();
  left!.untilDone();
  right!.go();
  right!.untilDone();
  touch(region.bytes, 7, 1);
  touch(region.bytes, 7, 2);
  touch(other.bytes, 2, 1);
  const dirty = tracker.collect();
  const me = kernelThreadId();
  assert.deepEqual(dirty.writes, [
    { memory: 0, offset: 5 * PAGE + 3, threadId: left!.tid },
    { memory: 0, offset: 9 * PAGE + 3, threadId: right!.tid },
    { memory: 0, offset: 7 * PAGE, threadId: me },
    { memory: 1, offset: 2 * PAGE, threadId: me },
  ]);
  const everybody = [left!.tid, right!.tid, me].sort((a, b) => a - b);
  assert.deepEqual(dirty.threadIds, everybody);
  assert.equal(dirty.missedWrites, 0);
  assert.deepEqual(dirty.of(1).threadIds, [me]);
  assert.deepEqual(consumer.collect().writes, dirty.writes, 'a consumer is told the same');
  assert.deepEqual(tracker.collect().writes, []);
  touch(region.bytes, 5, 9);
  const later = tracker.collect();
  assert.deepEqual(later.union(dirty).threadIds, everybody);
  assert.deepEqual(dirty.difference(later).writes.length, 3, 'of the pages that are left');
  assert.deepEqual(dirty.intersection(later).writes.length, 2, 'of both, where both wrote');

  const measured = measureWrites(
    () => {
      left!.go(2);
      left!.untilDone(2);
    },
    region,
    { engine: 'wp-sync' },
  );
  assert.deepEqual(measured.threadIds, [left!.tid]);
  assert.equal(measureWrites(() => undefined, other, { engine: 'compare' }).threadIds, undefined);
  left!.end();
  right!.end();
}

/** The last of several memories cannot be armed where it grew, as somebody else has it there. */
export function tellsLaterWhoWrote(): void {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const wasm = new WebAssembly.Memory({ initial: 1, maximum: 4 });
  using tracker = track([region, wasm]);
  touch(region.bytes, 1, 1);
  wasm.grow(1);
  using other = new DirtyTracker(new Uint8Array(wasm.buffer, 65_536), { engine: 'wp-async' });
  assert.throws(() => tracker.collect(), { code: 'ERR_UFFD_BUSY' });
  other.close();
  const dirty = tracker.collect();
  assert.deepEqual(pagesOf(dirty.of(0)), [1]);
  assert.deepEqual(dirty.writes, [{ memory: 0, offset: PAGE, threadId: kernelThreadId() }]);
}

/** The list of writes is bounded, the pages are not. */
export function manyWrites(): void {
  const pages = 20_000;
  const region = Region.allocate({ bytes: pages * PAGE });
  using tracker = track(region);
  for (let page = 0; page < pages; page++) touch(region.bytes, page, 1);
  const dirty = tracker.collect();
  assert.equal(dirty.pageCount, pages);
  assert.equal(dirty.writes.length + dirty.missedWrites, pages);
  assert.equal(dirty.writes.length, 16_384);
  touch(region.bytes, 3, 1);
  const next = tracker.collect();
  assert.deepEqual([next.writes.length, next.missedWrites], [1, 0]);
}

export function refusesBuffers(): void {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const region = Region.allocate({ bytes: 4 * PAGE });
  const refused: Trackable[] = [
    new ArrayBuffer(4 * PAGE),
    new SharedArrayBuffer(4 * PAGE),
    Buffer.alloc(10),
    resizableBuffer(PAGE, 4 * PAGE),
    new Uint8Array(memory.buffer, PAGE, PAGE),
  ];
  for (const each of refused) {
    for (const memories of [each, [region, each]]) {
      assert.throws(() => track(memories), { code: 'ERR_INVALID_ARG_VALUE', message: /"wp-sync"/ });
    }
  }
  for (const each of [memory, Region.from(memory), region, region.buffer, region.bytes.subarray(10, 5000)]) {
    track(each).close();
  }
  assert.throws(() => new DirtyTracker(region, { engine: 'wp-sync', userModeOnly: 'yes' as never }), {
    code: 'ERR_INVALID_ARG_TYPE',
  });
}

/** One owner for each range. */
export function owns(): void {
  const region = Region.allocate({ bytes: 8 * PAGE });
  const tracker = track(region);
  const busy = { code: 'ERR_UFFD_BUSY' };
  assert.throws(() => Snapshot.take(region), busy);
  assert.throws(() => new DirtyTracker(region, { engine: 'wp-async' }), busy);
  assert.throws(() => new DirtyTracker(region, { engine: 'wp-sync', userModeOnly: true }), busy);
  using comparing = new DirtyTracker(region, { engine: 'compare' });
  touch(region.bytes, 3, 1);
  assert.deepEqual(pagesOf(tracker.collect()), [3], 'the attempts disturbed nothing');
  assert.deepEqual(pagesOf(comparing.collect()), [3]);
  tracker.close();
  Snapshot.take(region).close();
  // The other way round.
  using async = new DirtyTracker(region, { engine: 'wp-async' });
  assert.throws(() => track(region), busy);
  touch(region.bytes, 4, 1);
  assert.deepEqual(pagesOf(async.collect()), [4]);
}

/** A thread only while something is tracked. */
export function endsItsThread(): void {
  const before = resources();
  for (let round = 0; round < 20; round++) {
    const regions = [1, 2, 3].map(() => Region.allocate({ bytes: 4 * PAGE }));
    const trackers = regions.map((region) => track(region));
    assert.equal(resources().loops, 1, 'one for all');
    for (const tracker of trackers) tracker.close();
    until(() => resources().loops === 0);
  }
  assert.equal(resources().descriptorsInUse, before.descriptorsInUse);
  // The watchdog of the process stays.
  assert.ok(resources().threads <= before.threads + 1);
}

/** Without privilege. */
export async function ordinaryUser(): Promise<void> {
  const said = warnings();
  const region = Region.allocate({ bytes: 16 * PAGE });
  assert.throws(
    () => track(region),
    (error: Error & { code?: string; hint?: string; attempts?: { access: string }[] }) => {
      assert.match(error.code!, /^E(PERM|ACCES)$/);
      assert.match(error.hint!, /userModeOnly/);
      assert.deepEqual(
        error.attempts!.map(({ access }) => access),
        ['device', 'syscall'],
      );
      return true;
    },
  );
  {
    using tracker = new DirtyTracker(region, { engine: 'wp-sync', userModeOnly: true });
    using consumer = tracker.consumer();
    touch(region.bytes, 3, 1);
    const file = openSync(process.execPath, 'r');
    assert.throws(() => readSync(file, region.bytes, 5 * PAGE, PAGE, 0), { code: 'EFAULT' });
    touch(region.bytes, 6, 1);
    assert.equal(readSync(file, region.bytes, 6 * PAGE, 100, 0), 100, 'a page that was written is not armed');
    assert.deepEqual(pagesOf(tracker.collect()), [3, 6]);
    assert.deepEqual(pagesOf(consumer.collect()), [3, 6]);
  }
  testing().withholdFeatures(FEATURES.WP_ASYNC);
  assert.equal(new DirtyTracker(region, { userModeOnly: true }).engine, 'wp-sync');
  const other = Region.allocate({ bytes: 16 * PAGE });
  await turns();
  assert.deepEqual(said, []);
  assert.equal(new DirtyTracker(other).engine, 'compare', 'no system call fails unasked');
  await turns();
  assert.deepEqual(
    said.map(({ code }) => code),
    ['UFFD_FALLBACK'],
  );
}

/** wp-async, then wp-sync where the memory is for it, then compare. */
export async function automatic(): Promise<void> {
  const said = warnings();
  const region = Region.allocate({ bytes: 4 * PAGE });
  const memory = new WebAssembly.Memory({ initial: 1 });
  const engineOf = (memories: Trackable | Trackable[]): string => {
    using tracker = new DirtyTracker(memories);
    return tracker.engine;
  };
  testing().withholdFeatures(FEATURES.WP_ASYNC);
  assert.deepEqual([region, memory, [region, memory]].map(engineOf), ['wp-sync', 'wp-sync', 'wp-sync']);
  await turns();
  assert.deepEqual(said, [], 'no word about that');
  // A mapping of a file can be registered by nobody.
  const file = Region.allocate({ backing: 'file', path: process.execPath, bytes: 4 * PAGE });
  assert.deepEqual([file, new ArrayBuffer(PAGE), [region, Buffer.alloc(9)]].map(engineOf), [
    'compare',
    'compare',
    'compare',
  ]);
  await turns();
  assert.deepEqual(
    said.map(({ code }) => code),
    ['UFFD_FALLBACK'],
  );
  testing().withholdFeatures(FEATURES.PAGEFAULT_FLAG_WP);
  assert.throws(() => track(region), { code: 'ERR_UFFD_FEATURE' });
  assert.equal(engineOf(region), 'compare');
}

/** Its pages were taken, and some armed, by the collect that could not arm them all. */
function mappedAnewIsArmedAgain(tracker: DirtyTracker, bytes: Uint8Array): void {
  for (const page of [8, 20]) touch(bytes, page, 3);
  assert.equal(testing().mapAnew(bytes.subarray(8 * PAGE, 9 * PAGE)), undefined);
  assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, bytes.length / PAGE));
  assert.deepEqual(pagesOf(tracker.collect()), []);
  for (const page of [8, 20]) touch(bytes, page, 4);
  assert.deepEqual(pagesOf(tracker.collect()), [8, 20]);
}

/** A first write to a page that was never touched, and what follows. */
export function onOldKernel(name: string): void {
  OLD_KERNELS[name]!();
  const seesProtection = name !== 'Linux 5.13';
  for (const kind of KINDS.filter(({ exact }) => exact)) {
    const { memory, bytes } = kind.make(16 * WASM);
    touch(bytes, 1, 1);
    using tracker = new DirtyTracker(memory);
    assert.equal(tracker.engine, 'wp-sync');
    assert.deepEqual(pagesOf(tracker.collect()), []);
    touch(bytes, 77, 1);
    touch(bytes, 1, 2);
    const dirty = tracker.collect();
    assert.deepEqual(pagesOf(dirty), [1, 77], kind.name);
    assert.deepEqual(dirty.threadIds, [process.pid]);
    let sum = 0;
    for (let page = 0; page < 16 * WASM; page++) sum += bytes[page * PAGE]!;
    assert.equal(sum, 3);
    assert.deepEqual(pagesOf(tracker.collect()), [], 'reading is not writing');
    tracker.discard({ offset: 64 * PAGE, length: 32 * PAGE });
    assert.deepEqual(pagesOf(tracker.collect()), pageRun(64, 32));
    touch(bytes, 90, 1);
    assert.deepEqual(pagesOf(tracker.collect()), [90], 'armed again, also where it does not exist');
    if (memory instanceof Region) mappedAnewIsArmedAgain(tracker, bytes);
    if (memory instanceof WebAssembly.Memory && memory.buffer instanceof ArrayBuffer) {
      memory.grow(1);
      assert.deepEqual(pagesOf(tracker.collect()), pageRun(16 * WASM, WASM));
      touch(new Uint8Array(memory.buffer), 16 * WASM + 3, 1);
      assert.deepEqual(pagesOf(tracker.collect()), [16 * WASM + 3]);
    } else if (seesProtection) {
      assert.equal(testing().dropPages(bytes.subarray(5 * PAGE, 6 * PAGE)), undefined);
      assert.deepEqual(pagesOf(tracker.collect()), [5]);
      touch(bytes, 5, 1);
      assert.deepEqual(pagesOf(tracker.collect()), [5]);
    }
  }
}
