import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { DirtyTracker, Region, SnapshotHistory, Userfaultfd } from '../../lib/index.js';
import { binding } from '../../lib/binding.js';
import { testing, threadName, untilAsleepInFutex, untilSomebodyWaitsAt } from '../support/testing.js';
import { residentBytes } from './resident.js';
import { MEMORIES } from './copy-on-write-kinds.js';
import { PAGE, pagesOf, seeded, touch } from './dirty-support.js';
import { startWriter } from './barrier-writer.js';
import type { Opening } from './history-opener.js';
import type { WhileCopying } from './history-writer.js';

const MIB = 2 ** 20;

/** Somebody writes after each pass: no entry, and nothing of what was collected in vain is lost (B8). */
export async function torn(bytesOfMemory: string): Promise<void> {
  const region = Region.allocate({ bytes: Number(bytesOfMemory), shared: true });
  const { bytes } = region;
  using history = new SnapshotHistory(region);
  const first = history.take();
  touch(bytes, 40, 7);
  const barriers = Array.from({ length: 64 }, (_, i) => `copied, ${i % 2 === 0 ? 'even' : 'odd'} pass`);
  const writer = await startWriter({
    memory: region.buffer as SharedArrayBuffer,
    offsets: [20 * PAGE],
    barriers,
  });
  const before = history.bytes;
  assert.throws(() => history.take(), { code: 'ERR_UFFD_SNAPSHOT_TORN' });
  await writer.ended;
  assert.equal(history.bytes, before, 'it kept nothing');
  assert.equal(history.size, 1);
  assert.equal(bytes[20 * PAGE], 64, 'there was a write after each pass');
  const second = history.take();
  assert.equal(Buffer.compare(history.read(second), bytes), 0);
  assert.deepEqual(pagesOf(history.diff(first, second)), [20, 40]);
}

/**
 * A page that one memory shares with others lies in the midst of a second one. It is copied, only a neighbour
 * is written, and then somebody writes back what the entry before has there.
 */
export async function writtenBackInTheMidst(): Promise<void> {
  const { bytes, buffer } = Region.allocate({ bytes: 64 * PAGE, shared: true });
  const shared = 20 * PAGE;
  using history = new SnapshotHistory([bytes.subarray(100), bytes.subarray(shared + 100, 30 * PAGE)]);
  bytes[shared + 1] = 1;
  bytes[shared] = 7;
  history.take();
  bytes[shared] = 6;
  const memory = buffer as SharedArrayBuffer;
  const barriers = ['copied, even pass', 'copied, odd pass'];
  const { ended } = await startWriter({ memory, offsets: [0, shared], barriers });
  const entry = history.take();
  await ended;
  assert.equal(bytes[shared], 7);
  assert.equal(history.read(entry, shared - 100, 1)[0], 7);
  assert.equal(history.diff(entry).isEmpty, true);
}

/**
 * Another thread writes a page that was not collected, then one that was and is not copied yet: that the
 * first was written is all that shows that the copy is torn.
 */
export async function writtenWhileCopying(how: WhileCopying['how'], bytes: string): Promise<void> {
  const region = Region.allocate({ bytes: Number(bytes), backing: 'memfd' });
  using history = new SnapshotHistory(region);
  const first = history.take();
  touch(region.bytes, 40, 1);
  const task: WhileCopying = { handle: region.handle, how, written: [20, 40] };
  const writer = new Worker(path.join(__dirname, 'history-writer.js'), { workerData: task });
  const ended = once(writer, 'exit');
  await once(writer, 'message');
  const second = history.take();
  await ended;
  assert.equal(Buffer.compare(history.read(second), region.bytes), 0);
  assert.deepEqual(pagesOf(history.diff(first, second)), [20, 40]);
}

/** Of much memory nobody looks for what was written meanwhile where nobody could write. */
export async function muchMemoryWrittenMeanwhile(by: string): Promise<void> {
  const region = Region.allocate({ bytes: 128 * MIB, shared: true });
  const memory = region.buffer as SharedArrayBuffer;
  using history = new SnapshotHistory(region);
  const first = history.take();
  for (let round = 1; round <= 10; round++) {
    let ended: Promise<unknown> | undefined;
    const over = new Int32Array(new SharedArrayBuffer(4));
    if (by === 'this thread') {
      // As when a system call of its own completes a read: nobody else runs.
      testing().writeAtBarrier('copied in quiet', region.bytes.subarray(20 * PAGE), round);
    } else {
      const task = { memory, offsets: [20 * PAGE] };
      ({ ended } = await startWriter(
        by === 'a thread that is awake'
          ? { ...task, barriers: ['copied, even pass'], awakeUntil: over.buffer }
          : { ...task, barriers: ['copied in quiet'] },
      ));
    }
    // Threads of V8 and of Node.js may be awake as well: then it is not quiet, and the next entry is met.
    for (let tries = 0; region.bytes[20 * PAGE] !== round; tries++) {
      assert.ok(tries < 5000, 'it was never quiet');
      touch(region.bytes, 40, round);
      const entry = history.take();
      assert.ok(history.diff(entry).isEmpty, `round ${round}`);
      await nextTurn();
    }
    Atomics.store(over, 0, 1);
    await ended;
    assert.deepEqual(pagesOf(history.diff(first, history.current)), [20, 40]);
  }
}

/** A pass copies nothing, and what is written then is collected by another before it is asked for (B19). */
export async function collectedByAnother(): Promise<void> {
  const region = Region.allocate({ bytes: 64 * PAGE, shared: true });
  // Its first and last page are others' too.
  const own = region.bytes.subarray(100, 64 * PAGE - 100);
  using history = new SnapshotHistory(own);
  const first = history.take();
  const collector = new Worker(path.join(__dirname, 'history-collector.js'), { workerData: region.handle });
  await once(collector, 'message');
  const seen = once(collector, 'message');
  region.bytes[0]!++;
  testing().closeBarrier('copied, even pass');
  const second = history.take();
  assert.deepEqual(await seen, [[0, 20]]);
  assert.equal(Buffer.compare(history.read(second), own), 0, 'one more pass');
  assert.deepEqual(pagesOf(history.diff(first, second), own), [20]);
}

/** Entries of so many pages that a second thread copies with the first, and where it cannot. */
export async function manyPages(
  how: 'two threads' | 'no thread' | 'the other begins too late' | 'written meanwhile',
): Promise<void> {
  const COUNT = 8192;
  const region = Region.allocate({ bytes: COUNT * PAGE, shared: true });
  const words = new Uint32Array(region.buffer);
  const write = (value: number): void => {
    for (let page = 0; page < COUNT; page += 3) words.fill(page * value, page * 1024, (page + 1) * 1024);
  };
  if (how === 'no thread') {
    // The limit is not for root.
    if (process.getuid!() === 0) process.setuid!(65_534);
    execFileSync('prlimit', ['--pid', String(process.pid), '--nproc=1:']);
    assert.throws(() => new Worker('', { eval: true }), { code: 'ERR_WORKER_INIT_FAILED' });
  }
  using history = new SnapshotHistory(region);
  testing().helpAlways(true);
  // Without a page: a helper that came late, on a busy machine, would not be asked again so soon.
  history.take();
  write(2);
  const helpers = (): number => testing().helpersAtWork();
  while (helpers() > 0) await nextTurn();
  let ended: Promise<unknown> | undefined;
  if (how === 'the other begins too late') {
    testing().closeBarrier('helper begins');
  } else if (how === 'written meanwhile') {
    testing().closeBarrier('copies handed over');
    const memory = region.buffer as SharedArrayBuffer;
    const barriers = ['copy helper has pages', 'copies handed over'];
    ({ ended } = await startWriter({ memory, offsets: [3000 * PAGE], barriers }));
  }
  const before = how === 'written meanwhile' ? undefined : Buffer.from(region.bytes);
  const entry = history.take();
  await ended;
  if (how === 'written meanwhile') assert.equal(words[3000 * 1024], 6002);
  assert.equal(Buffer.compare(history.read(entry), before ?? region.bytes), 0);
  if (how === 'the other begins too late') {
    assert.equal(helpers(), 1, 'the same for the copies and for what comes after');
    // It finds nothing to do, also when what it was to do is gone.
    history.close();
    testing().openBarrier('helper begins');
  }
  const threads = readdirSync('/proc/self/task').filter((tid) => threadName(tid) === 'uffd-helper');
  assert.equal(threads.length > 0, how !== 'no thread');
  while (helpers() > 0) await nextTurn();
}

/** More pages than are noted before their tables are made. */
export function veryManyPages(): void {
  const count = 70_000;
  const region = Region.allocate({ bytes: count * PAGE });
  for (let page = 0; page < count; page++) touch(region.bytes, page, 1 + (page % 251));
  using history = new SnapshotHistory(region);
  const first = history.take();
  for (let page = 0; page < count; page += 7) region.bytes.fill(page % 2, page * PAGE, (page + 1) * PAGE);
  const before = history.entries[0]!;
  assert.equal(before.addedBytes, history.bytes);
  const second = history.take();
  assert.equal(Buffer.compare(history.read(second), region.bytes), 0);
  const { pages } = history.restore(first);
  assert.equal(pages, Math.ceil(count / 7));
  for (let page = 0; page < count; page++) {
    if (region.bytes[page * PAGE] !== 1 + (page % 251)) assert.fail(`page ${page}`);
  }
  const zeros = Math.ceil(count / 14);
  const { bytes } = history.entries.find(({ id }) => id === second)!;
  assert.ok(bytes >= (pages - zeros) * PAGE && bytes < pages * PAGE, `${bytes}`);
}

/** The second thread is the same for all entries, and sleeps between two. */
export function helperRests(): void {
  const region = Region.allocate({ bytes: 8192 * PAGE });
  using history = new SnapshotHistory(region, { maxEntries: 2 });
  testing().helpAlways(true);
  const helpers = (): string[] =>
    readdirSync('/proc/self/task').filter((tid) => threadName(tid) === 'uffd-helper');
  for (let i = 1; i <= 20; i++) {
    region.bytes.fill(i, 0, 1024 * PAGE);
    history.take();
    // What was dropped is given back by it, too.
    while (testing().helpersAtWork() > 0);
    assert.equal(helpers().length, 1);
  }
  untilAsleepInFutex(Number(helpers()[0]));
  assert.equal(testing().helpersAtWork(), 0);
  assert.ok(history.read(history.entries[1]!.id, 0, 1024 * PAGE).every((byte) => byte === 20));
}

/** Threads that are helped at the same time have a second thread each, and one that gives back meanwhile. */
export async function severalHelped(): Promise<void> {
  testing().helpAlways(true);
  const takers = Array.from({ length: 5 }, () => new Worker(path.join(__dirname, 'history-taker.js')));
  for (const [code] of await Promise.all(takers.map((taker) => once(taker, 'exit')))) assert.equal(code, 0);
  const helpers = readdirSync('/proc/self/task').filter((tid) => threadName(tid) === 'uffd-helper');
  assert.ok(helpers.length >= 1 && helpers.length <= 10, `${helpers.length} second threads`);
  while (testing().helpersAtWork() > 0) await nextTurn();
}

/**
 * What an entry took is entered, and what a dropped one held is given back, by a second thread; who needs it
 * meanwhile waits or does it.
 */
export async function keptUpMeanwhile(when: string, what: string): Promise<void> {
  const KEPT_UP = 'table is kept up';
  const region = Region.allocate({ bytes: 2048 * PAGE });
  // Too few for a second thread to copy them.
  const written = 200 * PAGE;
  const entryOf = (history: SnapshotHistory, value: number): number => {
    region.bytes.fill(value, 0, written);
    return history.take();
  };
  using alone = new SnapshotHistory(region, { maxEntries: 2 });
  using history = new SnapshotHistory(region, { maxEntries: 2 });
  for (const each of [alone, history]) for (const value of [1, 2]) entryOf(each, value);
  const lastAlone = entryOf(alone, 3);
  while (testing().helpersAtWork() > 0) await nextTurn();
  testing().helpAlways(true);
  testing().closeBarrier(when === 'not begun' ? 'helper begins' : KEPT_UP);
  let ended: Promise<unknown> | undefined;
  const go = new SharedArrayBuffer(4);
  if (when === 'begun') {
    const opening: Opening = { barrier: KEPT_UP, go };
    const opener = new Worker(path.join(__dirname, 'history-opener.js'), { workerData: opening });
    ended = once(opener, 'exit');
    await once(opener, 'message');
  }
  const third = entryOf(history, 3);
  // Whoever does it is held where it is, and this returned.
  if (when === 'not begun') assert.equal(testing().helpersAtWork(), 1);
  if (when === 'begun') {
    untilSomebodyWaitsAt(KEPT_UP);
    const flag = new Int32Array(go);
    Atomics.store(flag, 0, 1);
    Atomics.notify(flag, 0);
  }
  if (what === 'asked for') assert.equal(history.bytes, alone.bytes);
  if (what === 'taken') assert.equal(history.read(entryOf(history, 4), 0, 1)[0], 4);
  if (what === 'restored') assert.equal(history.restore(third).pages, 0);
  if (what === 'told') assert.deepEqual(history.entries, alone.entries);
  if (what === 'compared') {
    assert.equal(history.diff(third).isEmpty, true);
    assert.equal(history.diff(third - 1, third).pageCount, 200);
  }
  if (what === 'deleted') {
    for (const [each, id] of [
      [alone, lastAlone],
      [history, third],
    ] as const)
      each.delete(id);
    assert.equal(history.diff(third - 1).pageCount, 200);
  }
  if (what === 'closed') history.close();
  await ended;
  testing().openBarrier('helper begins');
  while (testing().helpersAtWork() > 0) await nextTurn();
  assert.equal(history.bytes, what === 'closed' ? 0 : alone.bytes);
  if (what === 'closed') return;
  const [entry, value] = what === 'deleted' ? [third - 1, 2] : [third, 3];
  assert.ok(history.read(entry, 0, written).every((byte) => byte === value));
}

/** Who makes the memory of the next entry is held in the midst of it, and nobody waits for it. */
export async function warmedMeanwhile(what: string): Promise<void> {
  const region = Region.allocate({ bytes: 1024 * PAGE });
  // The first one maps what all of them use.
  const first = new SnapshotHistory(region);
  first.take();
  first.close();
  const mapped = testing().mappedBytes();
  const history = new SnapshotHistory(region);
  const entryOf = (value: number): number => {
    region.bytes.fill(value);
    return history.take();
  };
  entryOf(1);
  testing().closeBarrier('memory is made');
  const second = entryOf(2);
  untilSomebodyWaitsAt('memory is made');
  if (what === 'taken') {
    const third = entryOf(3);
    testing().openBarrier('memory is made');
    while (testing().helpersAtWork() > 0) await nextTurn();
    for (const [entry, value] of [
      [second, 2],
      [third, 3],
      [entryOf(4), 4],
    ] as const) {
      assert.ok(history.read(entry).every((byte) => byte === value));
    }
  }
  if (what === 'deleted') {
    history.delete(second);
    assert.equal(history.size, 1);
  }
  history.close();
  testing().openBarrier('memory is made');
  while (testing().helpersAtWork() > 0) await nextTurn();
  assert.equal(testing().mappedBytes(), mapped);
}

/** Who comes late to what was dropped before finds nothing of what is dropped now, and not handed over yet. */
export function droppedBeforeHandOver(): void {
  const KEPT_UP = 'table is kept up';
  let meanwhile = (): void => {};
  const native = binding();
  const Native = native.SnapshotHistory;
  native.SnapshotHistory = class extends Native {
    override keepUp(): void {
      meanwhile();
      super.keepUp();
    }
  };
  const region = Region.allocate({ bytes: 64 * PAGE });
  using history = new SnapshotHistory(region, { maxEntries: 2 });
  const entryOf = (value: number): number => {
    region.bytes.fill(value);
    return history.take();
  };
  entryOf(1);
  entryOf(2);
  while (testing().helpersAtWork() > 0);
  testing().helpAlways(true);
  testing().closeBarrier('helper begins');
  entryOf(3);
  let found: boolean | undefined;
  meanwhile = () => {
    testing().closeBarrier(KEPT_UP);
    testing().openBarrier('helper begins');
    const isHeld = (): boolean => testing().waitingAt(KEPT_UP) > 0;
    while (testing().helpersAtWork() > 0 && !isHeld());
    found = isHeld();
    testing().openBarrier(KEPT_UP);
  };
  const fourth = entryOf(4);
  assert.equal(found, false);
  assert.ok(history.read(fourth).every((byte) => byte === 4));
}

/** Entries that are dropped by two threads or by one: what is left is the same. */
export function droppedInTurns(seed: string): void {
  const pages = 256;
  const random = seeded(Number(seed));
  const one = Region.allocate({ bytes: pages * PAGE });
  const two = Region.allocate({ bytes: pages * PAGE });
  const options = { maxEntries: 4 };
  const pair = [one, two].map((region) => ({ region, history: new SnapshotHistory(region, options) }));
  for (let round = 0; round < 400; round++) {
    const writes = Array.from({ length: random(60) }, () => random(pages));
    const choice = random(8);
    const at = random(4);
    const look = random(3);
    const results = pair.map(({ region, history }, i) => {
      testing().helpAlways(i === 1);
      for (const page of writes) touch(region.bytes, page, round);
      const { entries } = look === 0 ? history : { entries: [] };
      const id = history.current;
      if (choice === 0 && id !== undefined) history.undo();
      else if (choice === 1 && entries.length > 1) history.delete(entries[at % entries.length]!.id);
      else if (choice === 2 && id !== undefined) history.restore(id);
      else history.take();
      const newest = history.current;
      return [
        look === 0 ? history.entries : [],
        look === 1 ? history.bytes : 0,
        newest === undefined ? '' : createHash('md5').update(history.read(newest)).digest('hex'),
      ];
    });
    assert.deepEqual(results[0], results[1], `round ${round}`);
  }
  assert.equal(Buffer.compare(one.bytes, two.bytes), 0);
  for (const { history } of pair) history.close();
}

/** The second thread faults, on pages that were given back, and who would answer waits for it (D1). */
export async function helperFaults(): Promise<void> {
  const region = Region.allocate({ bytes: 1024 * PAGE });
  // The other engines have to register the memory themselves.
  using history = new SnapshotHistory(region, { engine: 'compare' });
  history.take();
  region.bytes.fill(1);
  using uffd = Userfaultfd.open({ features: ['EVENT_REMOVE'] });
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 600_000 });
  const events = uffd.events();
  testing().helpAlways(true);
  testing().closeBarrier('copies handed over');
  testing().closeBarrier('copy helper has pages');
  const discarder = new Worker(path.join(__dirname, 'history-discarder.js'), { workerData: region.handle });
  const ended = once(discarder, 'exit');
  await once(discarder, 'message');
  const entry = history.take();
  await ended;
  assert.ok(history.read(entry).every((byte) => byte === 0));
  void events.return?.();
}

/** Memory whose missing pages come from elsewhere: what does not exist is not zero. */
export function registered(kind: string, when: string): void {
  const { memory: made, bytes } = MEMORIES[kind]!();
  const memory = Region.isRegion(made) ? made : Region.from(made);
  const source = Region.allocate({ bytes: bytes().length });
  source.bytes.fill(7);
  using uffd = Userfaultfd.open({ features: ['EVENT_REMOVE', 'POISON'] });
  const register = (): unknown => uffd.register(memory, 'missing', { source });
  if (when === 'before') register();
  using history = new SnapshotHistory(memory, { engine: 'compare' });
  using tracker = new DirtyTracker(memory, { engine: 'compare' });
  if (when === 'after') register();
  const id = history.take();
  assert.ok(history.read(id).every((byte) => byte === 7));
  assert.ok(bytes().every((byte) => byte === 7));
  assert.equal(history.diff(id).isEmpty, true);
  history.restore(id);
  assert.ok(bytes().every((byte) => byte === 7));
  if (when === 'before') assert.equal(tracker.collect().isEmpty, true, 'it was read only');
  else assert.equal(tracker.collect().pageCount, bytes().length / PAGE);
}

/** Somebody writes a page after it was put back and before it is armed again. */
export async function writtenDuringRestore(): Promise<void> {
  const region = Region.allocate({ bytes: 64 * PAGE, shared: true });
  const { bytes } = region;
  using history = new SnapshotHistory(region);
  const first = history.take();
  touch(bytes, 20, 7);
  touch(bytes, 21, 7);
  const second = history.take();
  const memory = region.buffer as SharedArrayBuffer;
  const writer = await startWriter({ memory, offsets: [20 * PAGE], barriers: ['put back'] });
  assert.deepEqual(history.restore(first), { pages: 2, bytes: 2 * PAGE, different: 1 });
  await writer.ended;
  assert.deepEqual([bytes[20 * PAGE], bytes[21 * PAGE]], [1, 0]);
  assert.deepEqual(pagesOf(history.diff(first)), [20]);
  const third = history.take();
  assert.deepEqual(pagesOf(history.diff(first, third)), [20]);
  history.restore(second);
  assert.deepEqual([bytes[20 * PAGE], bytes[21 * PAGE]], [7, 7]);
  history.restore(third);
  assert.deepEqual([bytes[20 * PAGE], bytes[21 * PAGE]], [1, 0]);
}

/** A scan that fails after the kernel re-armed the pages costs nothing but a look at all of them (B18). */
export function failedScan(): void {
  const region = Region.allocate({ bytes: 64 * PAGE });
  using history = new SnapshotHistory(region, { engine: 'wp-async' });
  const first = history.take();
  touch(region.bytes, 3, 1);
  testing().injectScanError(14);
  const second = history.take();
  assert.deepEqual(pagesOf(history.diff(first, second)), [3]);
  touch(region.bytes, 4, 1);
  touch(region.bytes, 3, 2);
  testing().injectScanError(14);
  history.restore(first);
  assert.ok(region.bytes.every((byte) => byte === 0));
  assert.equal(history.diff(first).isEmpty, true);
}

/** 2 GiB of which a few pages were ever written. */
export function sparseHistory(): void {
  const region = Region.allocate({ bytes: 2048 * MIB });
  const shared = Region.allocate({ bytes: 512 * MIB, backing: 'memfd' });
  for (const page of [0, 1, 100_000, 524_287]) touch(region.bytes, page, 1);
  touch(shared.bytes, 70_000, 1);
  const before = residentBytes();
  using history = new SnapshotHistory([region, shared]);
  const faults = process.resourceUsage().minorPageFault;
  const first = history.take();
  const taken = process.resourceUsage().minorPageFault - faults;
  assert.ok(taken < 20_000, `${taken} page faults: holes were read`);
  assert.ok(history.bytes < 40 * PAGE, `${history.bytes} bytes for five pages`);
  touch(region.bytes, 7, 1);
  touch(region.bytes, 100_000, 2);
  history.take();
  history.restore(first);
  assert.deepEqual([region.bytes[7 * PAGE], region.bytes[100_000 * PAGE]], [0, 1]);
  const grew = residentBytes() - before;
  assert.ok(grew < 64 * MIB, `${grew} bytes became resident`);
}

/** What entries held goes back to the kernel when they are deleted, closed or forgotten. */
export async function historyFreed(): Promise<void> {
  const region = Region.allocate({ bytes: 64 * MIB });
  const memory = new WebAssembly.Memory({ initial: 512 });
  const fill = (value: number): void => {
    region.bytes.fill(value);
    new Uint8Array(memory.buffer).fill(value);
  };
  fill(1);
  // What the process opens once.
  const warm = new SnapshotHistory(memory);
  warm.take();
  warm.close();
  const before = residentBytes();
  const mapped = testing().mappedBytes();
  const history = new SnapshotHistory([region, memory]);
  const ids = [1, 2, 3].map((value) => {
    fill(value);
    return history.take();
  });
  assert.ok(residentBytes() - before > 280 * MIB, 'three entries of 96 MiB');
  history.delete(ids[1]!);
  history.delete(ids[2]!);
  assert.ok(history.bytes < 100 * MIB);
  assert.ok(residentBytes() - before < 240 * MIB, `delete() frees: ${residentBytes() - before}`);
  history.restore(ids[0]!);
  assert.ok(region.bytes.every((byte) => byte === 1));
  history.close();
  // Who is making the memory of the next entry ends that first.
  while (testing().helpersAtWork() > 0) await nextTurn();
  assert.equal(testing().mappedBytes(), mapped, 'close() frees all');
  (() => {
    for (let i = 0; i < 3; i++) assert.equal(new SnapshotHistory(memory).take(), 1);
  })();
  assert.ok(testing().mappedBytes() > mapped);
  for (let round = 0; round < 5; round++) {
    global.gc!();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(testing().mappedBytes(), mapped, 'the garbage collector frees them');
  using uffd = Userfaultfd.open();
  uffd.register(Region.from(memory), 'write-protect').close();
  using tracker = new DirtyTracker(memory);
  touch(new Uint8Array(memory.buffer), 3, 2);
  assert.deepEqual(pagesOf(tracker.collect()), [3]);
}

/** Many small buffers in one page of the heap, where the history's own writes go too (B9). */
export function entriesOfTheHeap(): void {
  for (const count of [1, 3, 30]) {
    for (let round = 0; round < 20; round++) {
      const buffers = Array.from({ length: count }, (_, i) => new Uint8Array(700).fill(i + 1));
      using history = new SnapshotHistory([...buffers, buffers[0]!]);
      const first = history.take();
      for (const bytes of buffers) bytes.fill(255);
      history.take();
      history.restore(first);
      for (const [i, bytes] of buffers.entries()) assert.ok(bytes.every((byte) => byte === i + 1));
      history.redo();
      for (const bytes of buffers) assert.ok(bytes.every((byte) => byte === 255));
    }
  }
}

/** Any kind of memory that Region.allocate gives, with entries that share pages. */
export function kindOfMemory(kind: string): void {
  const [backing, mapping] = kind.split(' ').reverse() as ['memfd' | 'hugetlb' | 'anonymous', 'private'?];
  const pageSize = backing === 'hugetlb' ? 2 * MIB : PAGE;
  const bytes = 4 * pageSize;
  const region = Region.allocate({ bytes, backing, ...(mapping === undefined ? {} : { mapping }) });
  region.bytes[pageSize] = 1;
  using history = new SnapshotHistory(region);
  const first = history.take();
  region.bytes[2 * pageSize + 5] = 2;
  region.bytes[pageSize + 9] = 2;
  const before = history.bytes;
  const second = history.take();
  assert.ok(history.bytes - before < 8 * PAGE, `${history.bytes - before} bytes for two pages`);
  const [{ offset, length }] = [...history.diff(first, second)] as [{ offset: number; length: number }];
  assert.deepEqual([offset, length], [pageSize, 2 * pageSize]);
  history.undo();
  assert.deepEqual(
    [region.bytes[2 * pageSize + 5], region.bytes[pageSize + 9], region.bytes[pageSize]],
    [0, 0, 1],
  );
  region.discard(pageSize, pageSize);
  history.restore(second);
  assert.deepEqual(
    [region.bytes[2 * pageSize + 5], region.bytes[pageSize + 9], region.bytes[pageSize]],
    [2, 2, 1],
  );
  assert.equal(history.diff(second).isEmpty, true);
}
