// Resolving on the thread that faults: signals, handlers and system calls. Each function runs in a
// process of its own (test 65).

import assert from 'node:assert/strict';
import { randomFill } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Region, Snapshot, Userfaultfd, type UffdError } from '../../lib/index.js';
import { testing, untilSomebodyWaitsAt } from '../support/testing.js';
import {
  assertEqualBytes,
  bytesOf,
  fillPages,
  Helper,
  releaseSweep,
  sharedWasm,
  take,
  takeAndHold,
} from './copy-on-write-support.js';
import { PAGE, pagesOf, wasmStore, WASM_PAGE } from './dirty-support.js';
import { ready } from './loop-support.js';

const PAGES = 256;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function filledRegion(): { region: Region; bytes: Uint8Array; before: Buffer } {
  const region = Region.allocate({ bytes: PAGES * PAGE });
  fillPages(region.bytes);
  return { region, bytes: region.bytes, before: Buffer.from(region.bytes) };
}

function writeAll(bytes: Uint8Array, from = 0, to = PAGES): void {
  for (let page = from; page < to; page++) bytes[page * PAGE] = 255;
}

/** Memory whose pages are behind the end of their file: a touch is SIGBUS, and none of ours. */
function truncated(): Uint8Array {
  const file = path.join(tmpdir(), `in-thread-${process.pid}`);
  fs.writeFileSync(file, Buffer.alloc(4 * PAGE, 1));
  const region = Region.allocate({ backing: 'file', path: file });
  fs.truncateSync(file, 0);
  fs.unlinkSync(file);
  return region.bytes;
}

// Faults that are not ours

/** `when`: while a capture is under way, after one, or after many that used the same slots. */
export async function foreignFault(when: string): Promise<void> {
  const { region, bytes } = filledRegion();
  if (when === 'during') {
    takeAndHold(region, 'in-thread');
    writeAll(bytes);
  } else {
    for (let i = 0; i < (when === 'after' ? 1 : 40); i++) {
      const snapshot = take(region, 'in-thread');
      writeAll(bytes);
      await snapshot.ready;
      snapshot.close();
    }
  }
  const foreign = truncated();
  ready();
  console.error(foreign[0]);
}

/** Where a snapshot's memory was is other memory now, which faults for its own reasons. */
export async function foreignFaultInOldPlace(): Promise<void> {
  const memory = sharedWasm(4);
  fillPages(bytesOf(memory));
  const snapshot = take(memory, 'in-thread');
  bytesOf(memory)[0] = 255;
  await snapshot.ready;
  snapshot.close();
  using uffd = Userfaultfd.open({ features: ['POISON'] });
  const region = Region.from(memory);
  region.discard();
  uffd.register(region, 'missing');
  uffd.poison(region, { offset: 0, length: PAGE });
  ready();
  console.error(bytesOf(memory)[0]);
}

/** Sent by somebody, while captures go on. */
export function sentSignal(): void {
  const { region } = filledRegion();
  takeAndHold(region, 'in-thread');
  ready();
  process.kill(process.pid, 'SIGBUS');
  setInterval(() => undefined, 1000);
}

/** A handler of the program's own, installed before or after ours, is called for its faults and only for them. */
export function nativeHandler(order: string): void {
  const { region, bytes, before } = filledRegion();
  if (order === 'before') testing().countSigbus();
  const snapshot = takeAndHold(region, 'in-thread');
  if (order === 'after') {
    testing().countSigbus();
    releaseSweep();
    // The background looks whether it was replaced.
    const again = take(Region.allocate({ bytes: PAGE }), 'in-thread');
    again.close();
  }
  writeAll(bytes);
  assert.equal(testing().sigbusCount(), 0, 'no fault of ours');
  const foreign = truncated();
  assert.equal(foreign[PAGE], 0, 'their handler mapped zeros');
  assert.equal(testing().sigbusCount(), 1);
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  releaseSweep();
}

/** process.on('SIGBUS') takes the place of our handler; process.off() puts the default there, which kills. */
export function processOn(when: string): void {
  const { region, bytes, before } = filledRegion();
  let heard = 0;
  const listener = (): void => {
    heard++;
  };
  if (when === 'before') process.on('SIGBUS', listener);
  const snapshot = takeAndHold(region, 'in-thread');
  writeAll(bytes, 0, 50);
  if (when === 'during') process.on('SIGBUS', listener);
  writeAll(bytes, 50, 100);
  if (when === 'off') {
    process.on('SIGBUS', listener);
    process.off('SIGBUS', listener);
  }
  if (when === 'once') {
    process.once('SIGBUS', listener);
    process.removeAllListeners('SIGBUS');
  }
  writeAll(bytes, 100);
  assert.equal(snapshot.progress.faulted, PAGES);
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  assert.equal(heard, 0);
  releaseSweep();
}

/** What the program wants to hear of SIGBUS, sent by others, it hears. */
export async function processOnHears(): Promise<void> {
  const { region, bytes } = filledRegion();
  const heard = new Promise((resolve) => process.once('SIGBUS', resolve));
  const snapshot = takeAndHold(region, 'in-thread');
  writeAll(bytes);
  process.kill(process.pid, 'SIGBUS');
  // Listening alone does not keep the process.
  const alive = setInterval(() => undefined, 1000);
  assert.equal(await heard, 'SIGBUS');
  clearInterval(alive);
  releaseSweep();
  await snapshot.ready;
}

/** A handler put in place without telling anybody: the background looks, and writes go on. */
export async function replacedSilently(): Promise<void> {
  const region = Region.allocate({ bytes: 4 * 2 ** 20 });
  fillPages(region.bytes);
  const before = Buffer.from(region.bytes);
  const snapshot = take(region, 'in-thread', { bytesPerSecond: 1 });
  testing().countSigbus();
  // Their handler would map zeros over the page: give ours the time to be put back.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  region.bytes[3 * 2 ** 20] = 255;
  assert.equal(testing().sigbusCount(), 0);
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
}

/** The kernel delivers the signal of a fault even where it is blocked, by ending the process. */
export function blockedSigbus(): void {
  const memory = sharedWasm(4);
  const writer = new Helper({ role: 'blocked', memories: [memory], offsets: [0] });
  takeAndHold(memory, 'in-thread');
  ready();
  writer.go();
  writer.untilDone(1);
}

// Threads and signals

/** Pool threads, Wasm code, Workers and the main thread. */
export async function writers(): Promise<void> {
  const memory = sharedWasm(16);
  const bytes = bytesOf(memory);
  fillPages(bytes);
  const before = Buffer.from(bytes);
  const offsets = [0, 1, 2].map((i) => i * 3 * PAGE + 5);
  const workers = offsets.map(
    (offset) => new Helper({ role: 'writer', memories: [memory], offsets: [offset] }),
  );
  const snapshot = takeAndHold(memory, 'in-thread');
  const store = wasmStore(memory);
  for (const worker of workers) worker.go();
  store(20 * PAGE, 7);
  bytes[21 * PAGE] = 7;
  Atomics.add(bytes, 22 * PAGE, 7);
  bytes.fill(7, 30 * PAGE, 40 * PAGE);
  bytes.copyWithin(50 * PAGE, 0, 3 * PAGE);
  const random = [60, 70, 80, 90].map(
    (page) =>
      new Promise<void>((resolve, reject) =>
        randomFill(bytes, page * PAGE, 5 * PAGE, (error) => (error ? reject(error) : resolve())),
      ),
  );
  await Promise.all(random);
  for (const worker of workers) worker.untilDone(1);
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  assert.ok(snapshot.progress.faulted >= 3 + 3 + 10 + 3 + 20, 'each written page was captured first');
  releaseSweep();
  await snapshot.ready;
  snapshot.restore();
  assertEqualBytes(bytes, before, 'the memory');
}

/** The profiler interrupts the handler's thread all the time (run with --cpu-prof). */
export async function signals(): Promise<void> {
  const memory = sharedWasm(256);
  const bytes = bytesOf(memory);
  let value = 0;
  for (let round = 0; round < 10; round++) {
    fillPages(bytes, round);
    const before = Buffer.from(bytes);
    const snapshot = take(memory, 'in-thread');
    for (let at = bytes.length - PAGE; at >= 0; at -= PAGE) bytes[at] = value++;
    await snapshot.ready;
    assertEqualBytes(snapshot.read(), before, `round ${round}`);
    snapshot.close();
  }
}

/** More in turn, and more at a time, than there are places for their ranges. */
export async function many(): Promise<void> {
  const { region, bytes } = filledRegion();
  for (let i = 0; i < 600; i++) {
    bytes[(i % PAGES) * PAGE + 1] = i;
    const was = bytes[(i % PAGES) * PAGE + 1]!;
    const snapshot = take(region, 'in-thread');
    bytes[(i % PAGES) * PAGE + 1] = was + 1;
    assert.equal(snapshot.read((i % PAGES) * PAGE + 1, 1)[0], was);
    snapshot.close();
  }
  const regions = Array.from({ length: 520 }, () => Region.allocate({ bytes: PAGE }));
  assert.throws(() => take(regions, 'in-thread'), { code: 'EMFILE', syscall: 'sigaction(SIGBUS)' });
  const fitting = regions.slice(0, 500);
  const snapshot = takeAndHold(fitting, 'in-thread');
  for (const each of regions) each.bytes[0] = 1;
  releaseSweep();
  await snapshot.ready;
  assert.equal(snapshot.read(0, 1, 499)[0], 0);
}

/** Threads that faulted before the snapshot went and come to the handler after it. */
export function lateSignal(): void {
  const memory = sharedWasm(4);
  const bytes = bytesOf(memory);
  const writer = new Helper({ role: 'writer', memories: [memory], offsets: [3] });
  const snapshot = takeAndHold(memory, 'in-thread');
  testing().closeBarrier('sigbus-before-lookup');
  writer.go();
  untilSomebodyWaitsAt('sigbus-before-lookup');
  releaseSweep();
  snapshot.close();
  // Its place is taken by others meanwhile.
  for (let i = 0; i < 10; i++) take(Region.allocate({ bytes: PAGE }), 'in-thread').close();
  testing().openBarrier('sigbus-before-lookup');
  writer.untilDone(1);
  assert.equal(bytes[3], 200);
}

/** A handler that is at work when its snapshot closes: the close waits for it. */
export async function closedUnderHandlers(): Promise<void> {
  const memory = sharedWasm(16);
  const bytes = bytesOf(memory);
  const workers = [0, 1, 2].map(
    (i) =>
      new Helper({
        role: 'writer',
        memories: Array(64).fill(memory) as WebAssembly.Memory[],
        offsets: Array.from({ length: 64 }, (_, page) => (page * 4 + i) * PAGE),
      }),
  );
  for (let round = 0; round < 100; round++) {
    const snapshot = take(memory, 'in-thread');
    for (const worker of workers) worker.go();
    if (round % 4 === 0) await turn();
    snapshot.close();
    for (const worker of workers) worker.untilDone(64 * (round + 1));
  }
  assert.equal(bytes[0], (200 + 99) % 256);
}

// System calls

/** fs.read into pages that are not captured yet. */
export function readIntoArmed(resolver: string): void {
  const { region, bytes, before } = filledRegion();
  const file = fs.openSync(process.execPath, 'r');
  const snapshot = takeAndHold(region, resolver);
  const read = (page: number): number => fs.readSync(file, bytes, page * PAGE, PAGE, 0);
  if (resolver === 'in-thread') {
    assert.throws(() => read(5), { code: 'EFAULT' });
    assert.equal(bytes[5 * PAGE], before[5 * PAGE], 'nothing was written');
    assert.deepEqual(pagesOf(snapshot.diff()), []);
    // Captured by a write of the program's own, it is free.
    bytes[5 * PAGE] = 0;
  }
  assert.equal(read(5), PAGE);
  assert.equal(bytes[5 * PAGE + 1], 'E'.charCodeAt(0), 'an ELF file');
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  assert.deepEqual(pagesOf(snapshot.diff()), [5]);
  snapshot.restore();
  assertEqualBytes(bytes, before, 'the memory');
  releaseSweep();
}

/** As an ordinary user. */
export async function ordinaryUser(): Promise<void> {
  const { region, bytes, before } = filledRegion();
  const file = fs.openSync(process.execPath, 'r');
  {
    using snapshot = Snapshot.take(region);
    assert.equal(snapshot.mode, 'copy');
    assert.equal(fs.readSync(file, bytes, 5 * PAGE, PAGE, 0), PAGE);
    assertEqualBytes(snapshot.read(), before, 'the copy');
    snapshot.restore();
  }
  assert.throws(
    () => take(region, 'loop'),
    (error: UffdError) => {
      assert.equal(error.code, 'EPERM');
      assert.ok(error.attempts !== undefined && error.attempts.length > 0);
      assert.ok(error.hint !== undefined && error.hint.length > 0);
      return true;
    },
  );
  const snapshot = takeAndHold(region, 'in-thread');
  writeAll(bytes);
  releaseSweep();
  await snapshot.ready;
  assertEqualBytes(snapshot.read(), before, 'in-thread');
}

/** Poisoned pages in other memory of the process stay what they are, and ours are resolved beside them. */
export function poisonedElsewhere(): void {
  const { region, bytes, before } = filledRegion();
  const other = Region.allocate({ bytes: WASM_PAGE });
  using uffd = Userfaultfd.open({ features: ['POISON'] });
  uffd.register(other, 'missing');
  uffd.poison(other, { offset: 0, length: PAGE });
  const snapshot = takeAndHold(region, 'in-thread');
  writeAll(bytes);
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  ready();
  console.error(other.bytes[0]);
}
