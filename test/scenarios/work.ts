// How much work an operation is: what the addon calls, counted by the test build, and what JavaScript allocates.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  DirtyTracker,
  Region,
  Snapshot,
  SnapshotHistory,
  Userfaultfd,
  type PageFault,
  type UffdEvent,
} from '../../lib/index.js';
import { binding, type NativeCounted, type NativeUserfaultfd } from '../../lib/binding.js';
import { testing } from '../support/testing.js';
import { PAGE } from './dirty-support.js';
import { sharedRegion, Toucher, withoutWatchdog } from './loop-support.js';

type Work = Partial<Record<NativeCounted, number>>;

/** What `operation` made the addon call; what it did not call is left out. */
function workOf(operation: () => unknown): Work {
  const before = testing().counts();
  operation();
  const after = testing().counts();
  const work: Work = {};
  for (const name of Object.keys(after) as NativeCounted[]) {
    if (after[name] !== before[name]) work[name] = after[name] - before[name];
  }
  return work;
}

/** Without what differs from one standard library to another. */
function systemCalls(work: Work): Work {
  const calls = { ...work };
  delete calls.allocations;
  return calls;
}

function populated(pages: number): Region {
  const region = Region.allocate({ bytes: pages * PAGE });
  region.bytes.fill(1);
  return region;
}

/** Every other page, so that each is a range of its own. */
function writeScattered({ bytes }: Region, count: number): void {
  for (let i = 0; i < count; i++) bytes[i * 2 * PAGE] = 2;
}

/** Few, and no more for many pages than for few. */
const ALLOCATIONS = 8;

/** With the engine open and its code warm. */
function trackedRegion(pages: number): { region: Region; tracker: DirtyTracker } {
  const region = populated(pages);
  const tracker = new DirtyTracker(region, { engine: 'wp-async' });
  for (let i = 0; i < 3; i++) {
    writeScattered(region, 10);
    tracker.peek();
    tracker.collect();
  }
  return { region, tracker };
}

export function collect(): void {
  const { region, tracker } = trackedRegion(40_000);
  for (const count of [0, 1, 100, 20_000]) {
    writeScattered(region, count);
    const peeked = workOf(() => tracker.peek());
    assert.deepEqual(systemCalls(peeked), { ioctl: 1 }, `peek at ${count} ranges`);
    let pages = -1;
    const collected = workOf(() => (pages = tracker.collect().pageCount));
    assert.equal(pages, count);
    assert.deepEqual(systemCalls(collected), { ioctl: 1 }, `collect of ${count} ranges`);
    assert.ok(
      (collected.allocations ?? 0) <= ALLOCATIONS,
      `${collected.allocations} allocations for ${count}`,
    );
    assert.ok(
      (peeked.allocations ?? 0) <= ALLOCATIONS,
      `${peeked.allocations} allocations to peek at ${count}`,
    );
  }
}

/** The ioctl gives so many ranges at a time. */
export function collectManyRanges(): void {
  const { region, tracker } = trackedRegion(70_000);
  writeScattered(region, 35_000);
  let pages = -1;
  assert.deepEqual(systemCalls(workOf(() => (pages = tracker.collect().pageCount))), { ioctl: 2 });
  assert.equal(pages, 35_000);
}

/** Nothing is made per page or per range until somebody asks: a scattered page is one byte. */
export function memoryOfCollect(): void {
  const { region, tracker } = trackedRegion(40_000);
  const memoryFor = (count: number): number => {
    writeScattered(region, count);
    const before = memoryInUse();
    const dirty = tracker.collect();
    assert.equal(dirty.pageCount, count);
    const used = memoryInUse() - before;
    assert.equal(dirty.byteLength, count * PAGE);
    return used;
  };
  // V8 compiles now and then, and lets go of what it compiled.
  const usuallyFor = (count: number): number =>
    Array.from({ length: 11 }, () => memoryFor(count)).sort((a, b) => a - b)[5]!;
  const [few, many] = [usuallyFor(10), usuallyFor(20_000)];
  assert.ok(many - few > 15_000, `${many - few} bytes are not what was collected`);
  assert.ok(many - few < 40_000, `${many - few} bytes more for 20,000 ranges than for 10`);
}

/** Of V8, without garbage: its heap and what lies outside of it. */
function memoryInUse(): number {
  gc!();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

export function trackers(): void {
  const { region, tracker } = trackedRegion(64);
  const other = populated(64);
  let second: DirtyTracker | undefined;
  assert.deepEqual(
    systemCalls(workOf(() => (second = new DirtyTracker(other, { engine: 'wp-async' })))),
    { ioctl: 2 },
    'a tracker registers and arms',
  );
  assert.deepEqual(systemCalls(workOf(() => second!.close())), { ioctl: 1 }, 'and unregisters');
  // Of the same memory: it is registered already.
  let same: DirtyTracker | undefined;
  assert.deepEqual(
    systemCalls(workOf(() => (same = new DirtyTracker(region, { engine: 'wp-async' })))),
    { ioctl: 1 },
    'a second tracker of the same memory only looks',
  );
  assert.deepEqual(systemCalls(workOf(() => same!.close())), {});
  tracker.close();
}

export function snapshots(): void {
  const region = populated(2000);
  const { tracker } = trackedRegion(1);
  const snapshot = Snapshot.take(region, { mode: 'copy' });
  const restored = (count: number): Work => {
    writeScattered(region, count);
    let pages = -1;
    const work = workOf(() => (pages = snapshot.restore().pages));
    assert.equal(pages, count);
    return work;
  };
  restored(10);
  for (const count of [0, 10, 1000]) {
    const work = restored(count);
    assert.deepEqual(systemCalls(work), { ioctl: 2 }, `restore of ${count} pages`);
    assert.ok(
      (work.allocations ?? 0) <= 2 * ALLOCATIONS,
      `${work.allocations} allocations for ${count} pages`,
    );
  }
  tracker.close();
}

/** Collecting, and making sure that nobody wrote meanwhile; the memory is that of the entries dropped. */
export async function historyEntries(): Promise<void> {
  const region = populated(4000);
  for (const count of [10, 1000]) {
    using history = new SnapshotHistory(region, { maxEntries: 3 });
    const entry = (): Work => {
      writeScattered(region, count);
      return workOf(() => history.take());
    };
    for (let i = 0; i < 3; i++) {
      entry();
      await helpersAreDone();
    }
    for (let i = 0; i < 6; i++) {
      const work = entry();
      const { read = 0, ...others } = systemCalls(work);
      assert.deepEqual(others, { ioctl: 2 }, `entry of ${count} pages`);
      // Of many pages it is asked whether a processor is idle: once to copy them, of more once again for
      // their tables.
      assert.ok(read <= (count > 512 ? 2 : count > 256 ? 1 : 0), `${read} reads for ${count} pages`);
      assert.ok(
        (work.allocations ?? 0) <= 4 * ALLOCATIONS,
        `${work.allocations} allocations for ${count} pages`,
      );
    }
  }
}

/** Of much memory nobody looks a second time for what was written, where all other threads slept. */
export async function historyOfMuchMemory(): Promise<void> {
  const region = populated(2 ** 15);
  const scansOf = (history: SnapshotHistory): number[] =>
    Array.from({ length: 20 }, () => {
      writeScattered(region, 10);
      const { ioctl } = workOf(() => history.take());
      return ioctl!;
    });
  const assertMore = (scans: number[]): void =>
    assert.ok(
      scans.every((count) => count > 1),
      scans.join(' '),
    );
  using careful = new SnapshotHistory(region, { maxEntries: 3, outsideWriters: true });
  assertMore(scansOf(careful));
  careful.close();
  using history = new SnapshotHistory(region, { maxEntries: 3 });
  // Those of V8 and of Node.js may have something to do.
  const asleep: number[] = [];
  while (asleep.filter((count) => count === 1).length < 6) {
    asleep.push(...scansOf(history));
    assert.ok(asleep.length < 1000, `while they sleep: ${asleep.join(' ')}`);
    await nextTurn();
  }
  const words = new Int32Array(new SharedArrayBuffer(4));
  const source = `
    const words = require('node:worker_threads').workerData;
    Atomics.store(words, 0, 1);
    while (Atomics.load(words, 0) === 1);`;
  const worker = new Worker(source, { eval: true, workerData: words });
  const ended = once(worker, 'exit');
  while (Atomics.load(words, 0) === 0) await nextTurn();
  assertMore(scansOf(history));
  Atomics.store(words, 0, 2);
  await ended;
}

/** Whether pages exist is asked once for a long run, and each of them is looked at only where some do not. */
export async function historyRuns(): Promise<void> {
  const region = populated(4000);
  using history = new SnapshotHistory(region, { maxEntries: 3 });
  const entry = (): Work => {
    for (const first of [0, 1000]) region.bytes.fill(2, first * PAGE, (first + 80) * PAGE);
    return workOf(() => history.take());
  };
  for (let i = 0; i < 4; i++) {
    entry();
    await helpersAreDone();
  }
  assert.deepEqual(systemCalls(entry()), { ioctl: 2 + 2 });
  region.discard(2000 * PAGE, 80 * PAGE);
  assert.deepEqual(systemCalls(entry()), { ioctl: 2 + 3, pread: 1 });
}

/** With what is left of an entry, and with the memory of the next one. */
async function helpersAreDone(): Promise<void> {
  while (testing().helpersAtWork() > 0) await nextTurn();
}

/** Of the main thread alone: minflt in proc_pid_stat(5). */
function ownPageFaults(): number {
  const stat = readFileSync(`/proc/self/task/${process.pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[7]);
}

/** No entry is dropped, so each takes new memory. */
export async function memoryOfTheNextEntry(): Promise<void> {
  const region = populated(4000);
  using history = new SnapshotHistory(region);
  for (let i = 0; i < 12; i++) {
    writeScattered(region, 1000);
    const before = ownPageFaults();
    history.take();
    const faults = ownPageFaults() - before;
    // The first takes all of the memory, and from the second it is known what an entry takes.
    if (i >= 2) assert.ok(faults < 200, `${faults} page faults in entry ${i}`);
    await helpersAreDone();
  }
  assert.equal(history.read(history.entries[1]!.id, 0, 1)[0], 2);
}

/** Whoever collects tells the others, which costs nothing but to write it down. */
export function manyTrackers(): void {
  const { region, tracker } = trackedRegion(16);
  const others = Array.from({ length: 100 }, () => new DirtyTracker(region, { engine: 'wp-async' }));
  const collected = (of: DirtyTracker): Work => {
    region.bytes[0]!++;
    let pages = -1;
    const work = workOf(() => (pages = of.collect().pageCount));
    assert.equal(pages, 1);
    return work;
  };
  collected(tracker);
  const work = collected(tracker);
  assert.deepEqual(systemCalls(work), { ioctl: 1 });
  assert.ok((work.allocations ?? 0) <= ALLOCATIONS, `${work.allocations} allocations with 100 others`);
  for (const other of others) assert.equal(other.collect().pageCount, 1, 'each sees it once');
  for (const other of others) assert.ok(other.collect().isEmpty);
}

export function nativeFaults(): void {
  const region = populated(1000);
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  // The loop may be on its way to its first poll(2), and the watchdog has its own.
  withoutWatchdog();
  const { poll: first = 0, ...arming } = systemCalls(workOf(() => uffd.writeProtect(region)));
  assert.deepEqual(arming, { ioctl: 1 });
  assert.ok(first <= 1, `${first} polls`);
  region.bytes[0] = 2;
  const faults = 500;
  const work = workOf(() => {
    for (let page = 1; page <= faults; page++) region.bytes[page * PAGE] = 2;
  });
  // The last one may still be on its way back to poll(2).
  const { ioctl = 0, poll = 0, read = 0, write = 0, ...others } = work;
  assert.equal(ioctl, faults, 'one ioctl ends a fault');
  assert.ok(poll <= faults + 1, `${poll} polls`);
  assert.ok(read <= 2 * faults + 2, `${read} reads: the fault, and that there is no other`);
  assert.ok(write <= 2, `${write} writes: nothing is sent to JavaScript for each`);
  assert.deepEqual(others, {}, 'and nothing is allocated');
}

/** What is asked of the addon for a fault: its event, its answer, and twice whether somebody waits. */
export async function answers(): Promise<void> {
  const faults = 200;
  const region = sharedRegion(1);
  const page = new Uint8Array(region.pageSize).fill(1);
  const counted = countCalls();
  using uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 60_000 });
  const events = uffd.events();
  const thread = new Toucher(region.bytes, { offset: 0 });
  counted.clear();
  for (let i = 0; i < faults; i++) {
    const next = events.next();
    thread.go(i + 1);
    const fault = (await next).value as PageFault;
    await fault.resolve(page);
    thread.untilDone(i + 1);
    region.discard();
  }
  assert.deepEqual([...counted.keys()].sort(), ['drain', 'resolveFault', 'setRef']);
  assert.equal(counted.get('resolveFault'), faults);
  // Each reader looks once before it is told, and may be told once more of nothing.
  assert.ok(counted.get('drain')! <= faults + 10, `${counted.get('drain')} calls of drain()`);
  assert.ok(counted.get('setRef')! <= 2 * faults + 10, `${counted.get('setRef')} calls of setRef()`);
}

/** Counts by name what is asked of every userfaultfd that is opened from now on. */
function countCalls(): Map<string, number> {
  const counted = new Map<string, number>();
  const counting = (native: NativeUserfaultfd): NativeUserfaultfd =>
    new Proxy(native, {
      get: (target, name: keyof NativeUserfaultfd) => {
        const method = target[name].bind(target) as (...args: unknown[]) => unknown;
        return (...args: unknown[]): unknown => {
          counted.set(name, (counted.get(name) ?? 0) + 1);
          return method(...args);
        };
      },
    });
  const addon = binding();
  addon.Userfaultfd = new Proxy(addon.Userfaultfd, { construct: (Native) => counting(new Native()) });
  return counted;
}

export async function events(): Promise<void> {
  const faults = 500;
  const region = populated(faults + 1);
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  for (let page = 0; page < faults; page++) region.bytes[page * PAGE] = 2;
  const iterator = uffd.events({ batch: faults });
  const first = await iterator.next();
  assert.equal(first.done, false);
  const before = testing().counts();
  const seen: UffdEvent[] = [];
  while (seen.length < faults - 1) seen.push((await iterator.next()).value as UffdEvent);
  const after = testing().counts();
  assert.deepEqual(after, before, 'a batch is drained at once');
}
