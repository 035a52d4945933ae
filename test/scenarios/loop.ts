// The fault loop of `resolve: 'native'`. Each function runs in a process of its own (test 30).

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomFill } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { PageFault, Region, Userfaultfd } from '../../lib/index.js';
import { sleepersInFault, testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';
import {
  Bell,
  eventually,
  flagsOfRegisteredMemory,
  pages,
  ready,
  resources,
  sharedRegion,
  Toucher,
  until,
  withoutWatchdog,
} from './loop-support.js';

const PAGES = 16;
const WITHOUT_WP_UNPOPULATED = ['PAGEFAULT_FLAG_WP', 'THREAD_ID', 'EXACT_ADDRESS'] as const;

function allocate(pageCount = PAGES): Region {
  const { pageSize } = Region.allocate({ bytes: 1 });
  return Region.allocate({ bytes: pageCount * pageSize });
}

/** What happened, in the order it did, without the parts a scenario does not look at. */
function told(faults: PageFault[]): string[] {
  return faults.map(
    ({ reason, access, offset, region }) => `${reason} ${access} ${Math.floor(offset / region.pageSize)}`,
  );
}

// Fields

export async function writeToArmedPage(): Promise<void> {
  const region = allocate();
  region.bytes.fill(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  assert.equal(uffd.armedPages(region), PAGES);
  const offset = 5 * region.pageSize + 123;
  region.bytes[offset] = 9;
  region.bytes[offset + 1] = 8;
  assert.equal(region.bytes[6 * region.pageSize], 1);
  assert.equal(uffd.armedPages(region), PAGES - 1);
  const [fault, ...others] = await bell.faultsSoFar();
  assert.deepEqual(others, []);
  assert.ok(fault instanceof PageFault);
  const { type, reason, access, threadId, pageOffset, resolved, endedBy, action } = fault;
  assert.deepEqual(
    { type, offset: fault.offset, reason, access, threadId, pageOffset, resolved, endedBy, action },
    {
      type: 'pagefault',
      offset,
      reason: 'write-protect',
      access: 'write',
      threadId: process.pid,
      pageOffset: 5 * region.pageSize,
      resolved: true,
      endedBy: 'loop',
      action: 'unprotect',
    },
  );
  assert.equal(fault.region, region);
  await assert.rejects(fault.resolve(), { code: 'ERR_UFFD_FAULT_ENDED' });
  assert.deepEqual([...region.bytes.subarray(offset - 1, offset + 3)], [1, 9, 8, 1]);
}

export async function offsetWithoutExactAddress(): Promise<void> {
  const region = allocate();
  region.bytes.fill(1);
  const uffd = Userfaultfd.open({ optionalFeatures: [] });
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  region.bytes[3 * region.pageSize + 123] = 9;
  const [fault] = await bell.faultsSoFar();
  assert.equal(fault?.offset, 3 * region.pageSize);
  assert.equal(fault.threadId, undefined);
}

export async function missingPages(): Promise<void> {
  const region = allocate();
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'missing');
  const { bytes, pageSize } = region;
  assert.equal(bytes[2 * pageSize + 7], 0);
  bytes[4 * pageSize + 9] = 5;
  // They are there now: no further faults.
  bytes[2 * pageSize] = 6;
  assert.equal(bytes[4 * pageSize + 10], 0);
  assert.equal(bytes[4 * pageSize + 9], 5);
  const faults = await bell.faultsSoFar();
  assert.deepEqual(told(faults), ['missing read 2', 'missing write 4']);
  assert.deepEqual(
    faults.map(({ offset }) => offset),
    [2 * pageSize + 7, 4 * pageSize + 9],
  );
}

export async function bothModes(): Promise<void> {
  const region = allocate();
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, ['missing', 'write-protect']);
  const { bytes, pageSize } = region;
  bytes[3 * pageSize] = 1;
  assert.deepEqual(told(await bell.faultsSoFar()), ['missing write 3']);
  uffd.writeProtect(region, pages(region, 3));
  bytes[3 * pageSize] = 2;
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 3']);
  bytes[3 * pageSize] = 3;
  assert.deepEqual(told(await bell.faultsSoFar()), []);
}

export async function bothModesOnArmedHole(): Promise<void> {
  const region = allocate();
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, ['missing', 'write-protect']);
  uffd.writeProtect(region);
  assert.equal(uffd.armedPages(region), PAGES);
  const { bytes, pageSize } = region;
  bytes[3 * pageSize] = 7;
  assert.deepEqual(told(await bell.faultsSoFar()), ['missing write 3', 'write-protect write 3']);
  assert.equal(bytes[3 * pageSize], 7);
  assert.equal(uffd.armedPages(region), PAGES - 1);
  // A read brings the page and leaves it armed.
  assert.equal(bytes[5 * pageSize], 0);
  assert.equal(uffd.armedPages(region), PAGES - 1);
  bytes[5 * pageSize] = 1;
  assert.deepEqual(told(await bell.faultsSoFar()), ['missing read 5', 'write-protect write 5']);
}

export async function firstWriteEver(): Promise<void> {
  const region = allocate();
  const uffd = Userfaultfd.open({ features: ['WP_UNPOPULATED'] });
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  assert.equal(uffd.armedPages(region), PAGES);
  region.bytes[6 * region.pageSize] = 1;
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 6']);
  assert.equal(uffd.armedPages(region), PAGES - 1);
}

export async function firstWriteEverOldBehaviour(): Promise<void> {
  const region = allocate();
  const uffd = Userfaultfd.open({ optionalFeatures: WITHOUT_WP_UNPOPULATED });
  assert.equal(uffd.features.has('WP_UNPOPULATED'), false);
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  region.bytes[9 * region.pageSize] = 1;
  uffd.writeProtect(region);
  assert.equal(uffd.armedPages(region), 1);
  assert.equal(uffd.armedPages(region, pages(region, 0, 9)), 0);
  region.bytes[6 * region.pageSize] = 1;
  region.bytes[9 * region.pageSize] = 2;
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 9']);
}

export async function firstWriteEverToWasmMemory(): Promise<void> {
  for (const shared of [false, true]) {
    const region = Region.from(new WebAssembly.Memory({ initial: 1, maximum: 1, shared }));
    const uffd = Userfaultfd.open({ features: ['WP_UNPOPULATED'] });
    const bell = new Bell(uffd);
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
    assert.equal(uffd.armedPages(region), region.byteLength / region.pageSize);
    region.bytes[3 * region.pageSize + 1] = 1;
    assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 3']);
    uffd.close();
  }
}

export async function threadIds(): Promise<void> {
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open({ features: ['THREAD_ID'] });
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  const toucher = new Toucher(region.bytes, { offset: region.pageSize });
  uffd.writeProtect(region);
  region.bytes[0] = 1;
  toucher.go();
  toucher.untilDone();
  const faults = await bell.faultsSoFar();
  assert.notEqual(toucher.tid, process.pid);
  assert.deepEqual(
    faults.map(({ threadId }) => threadId),
    [process.pid, toucher.tid],
  );
}

// Many threads, many faults

export async function eightWritersOfOnePage(): Promise<void> {
  withoutWatchdog();
  const writers = 8;
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  const touchers = Array.from(
    { length: writers },
    (_, i) => new Toucher(region.bytes, { offset: region.pageSize + i, value: i + 1 }),
  );
  // Held, the loop reads all eight faults at once.
  testing().closeBarrier('loop-before-read');
  uffd.writeProtect(region);
  for (const toucher of touchers) toucher.go();
  for (const { tid } of touchers) untilAsleepInFault(tid);
  testing().openBarrier('loop-before-read');
  for (const toucher of touchers) toucher.untilDone();
  assert.deepEqual(
    [...region.bytes.subarray(region.pageSize, region.pageSize + writers)],
    [1, 2, 3, 4, 5, 6, 7, 8],
  );
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 1']);
}

export function eightWritersManyTimes(): void {
  const rounds = 500;
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  const touchers = Array.from({ length: 8 }, (_, i) => new Toucher(region.bytes, { offset: i }));
  for (let round = 1; round <= rounds; round++) {
    uffd.writeProtect(region, pages(region, 0));
    for (const toucher of touchers) toucher.go(round);
    for (const toucher of touchers) toucher.untilDone(round);
  }
  assert.deepEqual(
    touchers.map(({ touched }) => touched),
    Array.from({ length: 8 }, () => rounds),
  );
}

export async function mainThreadOnly(): Promise<void> {
  const pageCount = 1000;
  const rounds = 100;
  const region = allocate(pageCount);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  const writes = new Uint32Array(pageCount);
  let seen = 0;
  const observing = (async () => {
    for await (const event of uffd) {
      assert.equal(event.type, 'pagefault');
      writes[Math.floor(event.offset / region.pageSize)]!++;
      seen++;
      if (seen + uffd.missedEvents === pageCount * rounds) break;
    }
  })();
  const { bytes, pageSize } = region;
  for (let round = 1; round <= rounds; round++) {
    uffd.writeProtect(region);
    for (let page = 0; page < pageCount; page++) bytes[page * pageSize + round] = round;
    if (round % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await observing;
  assert.equal(seen + uffd.missedEvents, pageCount * rounds);
  // The reader was never further behind than the queue is long.
  assert.equal(uffd.missedEvents, 0);
  assert.deepEqual(new Set(writes), new Set([rounds]));
  for (let page = 0; page < pageCount; page++) assert.equal(bytes[page * pageSize + rounds], rounds);
}

export async function queueOverflow(): Promise<void> {
  const queue = 2 ** 17;
  const more = 1000;
  const region = allocate(1000);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  const { bytes, pageSize } = region;
  let faults = 0;
  while (faults < queue + more) {
    uffd.writeProtect(region);
    for (let page = 0; page < 1000 && faults < queue + more; page++, faults++) bytes[page * pageSize] = 1;
  }
  // The last write went on before its event was counted.
  until(() => uffd.missedEvents >= more);
  assert.equal(uffd.missedEvents, more);
  let seen = 0;
  for await (const event of uffd) {
    assert.equal(event.type, 'pagefault');
    seen++;
    if (seen === queue) break;
  }
  assert.equal(seen + uffd.missedEvents, faults);
  // It goes on recording when there is room again.
  const bell = new Bell(uffd);
  uffd.writeProtect(region);
  bytes[0] = 1;
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 0']);
}

/** Two Workers raise 100,000 faults while the main thread does not turn its event loop. */
export function busyMainThread(): void {
  const faults = 100_000;
  const { pageSize } = Region.allocate({ bytes: 1 });
  const region = sharedRegion(faults * pageSize);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing');
  const half = faults / 2;
  const touchers = [0, half].map(
    (first) =>
      new Toucher(region.bytes, { offset: first * pageSize, stride: pageSize, count: half, access: 'read' }),
  );
  const started = performance.now();
  for (const toucher of touchers) toucher.go();
  until(() => touchers.every(({ finishedRound }) => finishedRound === 1));
  until(() => performance.now() - started >= 1000);
  assert.equal(
    touchers.reduce((sum, { touched }) => sum + touched, 0),
    faults,
  );
  assert.equal(uffd.missedEvents, 0);
  for (const toucher of touchers) toucher.end();
  ready();
}

// Faults inside system calls

export async function poolThreadsWithPrivilege(): Promise<void> {
  const uffd = Userfaultfd.open({ userModeOnly: false });
  assert.equal(uffd.handlesKernelFaults, true);
  const region = allocate(64);
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const { bytes, pageSize } = region;

  const file = fs.openSync(__filename, 'r');
  const expected = fs.readFileSync(__filename).subarray(0, 2 * pageSize);
  const read = await promisify(fs.read)(file, bytes, 0, expected.length, 0);
  assert.equal(read.bytesRead, expected.length);
  assert.deepEqual(Buffer.from(bytes.subarray(0, expected.length)), expected);
  fs.closeSync(file);

  const random = bytes.subarray(32 * pageSize, 64 * pageSize);
  await promisify(randomFill)(random);
  assert.ok(new Set(random.subarray(31 * pageSize)).size > 128);

  const faults = await bell.faultsSoFar();
  const written = new Set(faults.map(({ offset }) => Math.floor(offset / pageSize)));
  assert.deepEqual(
    [...written].sort((a, b) => a - b),
    [0, 1, ...Array.from({ length: 32 }, (_, i) => 32 + i)],
  );
  assert.ok(faults.every(({ threadId }) => threadId !== process.pid));
  assert.ok(faults.every(({ reason, access }) => reason === 'write-protect' && access === 'write'));
}

export async function everyPoolThreadAtOnce(): Promise<void> {
  const fills = 4;
  const region = allocate(fills * 8);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing');
  const share = 8 * region.pageSize;
  const fill = promisify(randomFill);
  await Promise.all(
    Array.from({ length: fills }, (_, i) => fill(region.bytes.subarray(i * share, (i + 1) * share))),
  );
  for (let i = 0; i < fills; i++) {
    assert.ok(new Set(region.bytes.subarray(i * share, (i + 1) * share)).size > 128);
  }
}

export async function userModeOnly(): Promise<void> {
  const uffd = Userfaultfd.open({ userModeOnly: true });
  assert.equal(uffd.handlesKernelFaults, false);
  assert.equal(uffd.access, 'user-mode-only');
  const region = allocate();
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const file = fs.openSync(__filename, 'r');
  const target = region.bytes.subarray(0, 100);
  await assert.rejects(promisify(fs.read)(file, target, 0, 100, 0), { code: 'EFAULT', syscall: 'read' });
  assert.throws(() => fs.readSync(file, target, 0, 100, 0), { code: 'EFAULT' });
  assert.equal(uffd.armedPages(region), PAGES);
  // Memory that user code writes is served as ever, and then the system call may write it too.
  target[0] = 1;
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 0']);
  assert.equal(fs.readSync(file, target, 0, 100, 0), 100);
  fs.closeSync(file);
}

// copy, zeropage, wake, unprotect

export async function copyIntoMissing(): Promise<void> {
  const region = allocate();
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'missing');
  const { bytes, pageSize } = region;
  const source = new Uint8Array(2 * pageSize).fill(3, 0, pageSize).fill(4, pageSize);
  assert.equal(uffd.copy(region, 2 * pageSize, source), 2 * pageSize);
  assert.deepEqual(Buffer.from(bytes.subarray(2 * pageSize, 4 * pageSize)), Buffer.from(source));
  assert.deepEqual(await bell.eventsSoFar(), []);
}

export function copyOntoExisting(): void {
  const region = allocate();
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing');
  const { bytes, pageSize } = region;
  bytes[4 * pageSize] = 7;
  const exists = { name: 'UffdError', code: 'EEXIST', errno: -17, syscall: 'ioctl(UFFDIO_COPY)' };
  assert.throws(() => uffd.copy(region, 4 * pageSize, new Uint8Array(pageSize)), exists);
  assert.equal(bytes[4 * pageSize], 7);
  // It stops where a page exists and tells how far it came.
  assert.equal(uffd.copy(region, 2 * pageSize, new Uint8Array(4 * pageSize).fill(1)), 2 * pageSize);
  assert.deepEqual(
    [1, 2, 3, 4].map((page) => bytes[page * pageSize]),
    [0, 1, 1, 7],
  );
}

export async function zeropages(): Promise<void> {
  const region = allocate();
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, ['missing', 'write-protect']);
  const { bytes, pageSize } = region;
  assert.equal(uffd.zeropage(region, pages(region, 0, 2)), 2 * pageSize);
  assert.equal(bytes[pageSize], 0);
  assert.deepEqual(await bell.eventsSoFar(), []);
  const exists = { code: 'EEXIST', errno: -17, syscall: 'ioctl(UFFDIO_ZEROPAGE)' };
  assert.throws(() => uffd.zeropage(region, pages(region, 1)), exists);
  // A hole that is armed counts as existing.
  uffd.writeProtect(region, pages(region, 4));
  assert.throws(() => uffd.zeropage(region, pages(region, 4)), exists);
  assert.equal(uffd.zeropage(region, pages(region, 2, 3)), 2 * pageSize);
}

export async function copyKeepsProtection(): Promise<void> {
  const region = allocate();
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, ['missing', 'write-protect']);
  uffd.writeProtect(region);
  const { bytes, pageSize } = region;
  const source = new Uint8Array(pageSize).fill(5);
  uffd.copy(region, 2 * pageSize, source, { writeProtect: true });
  uffd.copy(region, 3 * pageSize, source);
  assert.equal(uffd.armedPages(region, pages(region, 2)), 1);
  assert.equal(uffd.armedPages(region, pages(region, 3)), 0);
  assert.equal(bytes[2 * pageSize], 5);
  assert.equal(bytes[3 * pageSize], 5);
  bytes[2 * pageSize] = 6;
  bytes[3 * pageSize] = 6;
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 2']);
}

export async function copyWithoutWake(): Promise<void> {
  withoutWatchdog();
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'missing');
  const { pageSize } = region;
  const reader = new Toucher(region.bytes, { offset: pageSize, access: 'read' });
  testing().closeBarrier('loop-before-read');
  reader.go();
  untilAsleepInFault(reader.tid);
  uffd.copy(region, pageSize, new Uint8Array(pageSize).fill(77), { wake: false });
  assert.deepEqual(sleepersInFault(), [reader.tid]);
  uffd.wake(region, pages(region, 1));
  reader.untilDone();
  assert.equal(reader.lastRead, 77);
  testing().openBarrier('loop-before-read');
  assert.deepEqual(await bell.eventsSoFar(), []);
}

export async function zeropageWithoutWake(): Promise<void> {
  withoutWatchdog();
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'missing');
  const reader = new Toucher(region.bytes, { offset: region.pageSize, access: 'read' });
  testing().closeBarrier('loop-before-read');
  reader.go();
  untilAsleepInFault(reader.tid);
  uffd.zeropage(region, pages(region, 1), { wake: false });
  assert.deepEqual(sleepersInFault(), [reader.tid]);
  uffd.wake(region, pages(region, 1));
  reader.untilDone();
  testing().openBarrier('loop-before-read');
  assert.deepEqual(await bell.eventsSoFar(), []);
}

export async function unprotectWithoutWake(): Promise<void> {
  withoutWatchdog();
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const writer = new Toucher(region.bytes, { offset: region.pageSize });
  testing().closeBarrier('loop-before-read');
  writer.go();
  untilAsleepInFault(writer.tid);
  uffd.unprotect(region, pages(region, 1), { wake: false });
  assert.deepEqual(sleepersInFault(), [writer.tid]);
  uffd.wake(region);
  writer.untilDone();
  testing().openBarrier('loop-before-read');
  assert.deepEqual(await bell.eventsSoFar(), []);
}

export async function unprotectWakes(): Promise<void> {
  withoutWatchdog();
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const writer = new Toucher(region.bytes, { offset: region.pageSize });
  testing().closeBarrier('loop-before-read');
  writer.go();
  untilAsleepInFault(writer.tid);
  uffd.unprotect(region, pages(region, 1));
  writer.untilDone();
  testing().openBarrier('loop-before-read');
  assert.deepEqual(await bell.eventsSoFar(), []);
  assert.equal(uffd.armedPages(region), region.byteLength / region.pageSize - 1);
  region.bytes[2 * region.pageSize] = 1;
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 2']);
}

export async function wakeAlone(): Promise<void> {
  withoutWatchdog();
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const writer = new Toucher(region.bytes, { offset: region.pageSize });
  testing().closeBarrier('loop-before-resolve');
  writer.go();
  untilAsleepInFault(writer.tid);
  untilSomebodyWaitsAt('loop-before-resolve');
  // Woken, the writer tries again and sleeps again: nothing was resolved.
  uffd.wake(region);
  untilAsleepInFault(writer.tid);
  assert.equal(writer.touched, 0);
  testing().openBarrier('loop-before-resolve');
  writer.untilDone();
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 1']);
}

/** The page comes while the loop has its fault in hand: the loser of the race wakes the reader (D8). */
export async function filledByTwo(): Promise<void> {
  withoutWatchdog();
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'missing');
  const { pageSize } = region;
  const reader = new Toucher(region.bytes, { offset: pageSize, access: 'read' });
  testing().closeBarrier('loop-before-resolve');
  reader.go();
  untilAsleepInFault(reader.tid);
  untilSomebodyWaitsAt('loop-before-resolve');
  uffd.copy(region, pageSize, new Uint8Array(pageSize).fill(88), { wake: false });
  assert.deepEqual(sleepersInFault(), [reader.tid]);
  testing().openBarrier('loop-before-resolve');
  reader.untilDone();
  assert.equal(reader.lastRead, 88);
  await bell.eventsSoFar();
  assert.equal(region.bytes[pageSize], 88);
}

/**
 * The loop has a fault in hand that somebody else ends; the page is armed again before the loop acts.
 *
 *   loop                          main thread
 *   reads the Worker's fault
 *                                 unprotects: the Worker goes on
 *                                 arms again (or registers anew and arms)
 *   ends the fault it read        (must leave the new protection alone)
 *                                 writes: must be told
 */
export async function lateFault(between: string): Promise<void> {
  withoutWatchdog();
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region, pages(region, 1));
  const writer = new Toucher(region.bytes, { offset: region.pageSize });
  testing().closeBarrier('loop-before-resolve');
  writer.go();
  untilAsleepInFault(writer.tid);
  untilSomebodyWaitsAt('loop-before-resolve');
  if (between === 'register') {
    uffd.unregister(region);
    writer.untilDone();
    uffd.register(region, 'write-protect');
  } else {
    uffd.unprotect(region, pages(region, 1));
    writer.untilDone();
  }
  uffd.writeProtect(region, pages(region, 1));
  testing().openBarrier('loop-before-resolve');
  // Once this is told the loop has done with the fault before it.
  await bell.eventsSoFar();
  assert.equal(uffd.armedPages(region), 1);
  region.bytes[region.pageSize + 1] = 2;
  const faults = await bell.faultsSoFar();
  assert.deepEqual(told(faults), ['write-protect write 1']);
  assert.equal(faults[0]!.threadId, process.pid);
}

// Other events

export async function spawns(): Promise<void> {
  const children = 100;
  const region = sharedRegion(1);
  const owned = allocate();
  const uffd = Userfaultfd.open({ features: ['EVENT_FORK'] });
  uffd.register(region, ['missing', 'write-protect']);
  uffd.register(owned, ['missing', 'write-protect']);
  uffd.writeProtect(region);
  uffd.writeProtect(owned);
  // What keeps a child from sleeping in a fault that nobody serves: it does not get this memory.
  const flags = flagsOfRegisteredMemory();
  assert.equal(flags.length, 2);
  for (const each of flags) assert.ok(each.includes('dc'), each.join(' '));
  const before = resources();
  for (let i = 0; i < children / 4; i++) {
    const batch = Array.from({ length: 4 }, () =>
      spawn(process.execPath, ['--version'], { stdio: 'ignore' }),
    );
    const codes = await Promise.all(batch.map(async (child) => (await once(child, 'close')) as [number]));
    assert.deepEqual(codes, [
      [0, null],
      [0, null],
      [0, null],
      [0, null],
    ]);
  }
  owned.bytes[0] = 1;
  region.bytes[0] = 1;
  assert.equal(resources().descriptorsInUse, before.descriptorsInUse);
}

/** The kernel raises a fork event only for memory that children inherit, and fork waits for its reader. */
export async function spawnsWithEvents(): Promise<void> {
  const children = 100;
  const owned = allocate();
  testing().inheritOnFork(owned.bytes);
  const uffd = Userfaultfd.open({ features: ['EVENT_FORK'] });
  uffd.register(owned, 'write-protect');
  const before = resources();
  for (let i = 0; i < children; i++) {
    const child = spawn(process.execPath, ['--version'], { stdio: 'ignore' });
    assert.deepEqual(await once(child, 'close'), [0, null]);
  }
  // Each child's userfaultfd was closed although nobody read the events.
  assert.equal(resources().descriptorsInUse, before.descriptorsInUse);
  let forks = 0;
  for await (const event of uffd) {
    assert.equal(event.type, 'fork');
    if (++forks === children) break;
  }
  assert.equal(forks, children);
}

export async function discarded(): Promise<void> {
  const region = allocate();
  region.bytes.fill(9);
  const uffd = Userfaultfd.open({ features: ['EVENT_REMOVE'] });
  const bell = new Bell(uffd);
  uffd.register(region, 'missing');
  const { bytes, pageSize } = region;
  region.discard(2 * pageSize, 3 * pageSize);
  assert.deepEqual(
    [1, 2, 4, 5].map((page) => bytes[page * pageSize]),
    [9, 0, 0, 9],
  );
  const events = await bell.eventsSoFar();
  assert.deepEqual(events[0], { type: 'remove', region, offset: 2 * pageSize, length: 3 * pageSize });
  assert.deepEqual(told(events.slice(1) as PageFault[]), ['missing read 2', 'missing read 4']);
}

/** madvise waits until its event was read; until then every ioctl on the descriptor says EAGAIN (D4, D5). */
export async function faultsWhileDiscarding(): Promise<void> {
  const region = sharedRegion(1);
  const pageCount = region.byteLength / region.pageSize;
  const uffd = Userfaultfd.open({ features: ['EVENT_REMOVE'] });
  uffd.register(region, ['missing', 'write-protect']);
  const { pageSize } = region;
  const touchers = [0, 1].map(
    (first) =>
      new Toucher(region.bytes, { offset: first * pageSize, stride: 2 * pageSize, count: pageCount / 2 }),
  );
  const rounds = 300;
  let removed = 0;
  const observing = (async () => {
    for await (const event of uffd) if (event.type === 'remove' && ++removed === rounds) break;
  })();
  for (let round = 1; round <= rounds; round++) {
    for (const toucher of touchers) toucher.go(round);
    region.discard();
    uffd.writeProtect(region);
    for (const toucher of touchers) toucher.untilDone(round);
    if (round % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await observing;
  assert.equal(removed, rounds);
}

// Errors of the loop

export async function passingError(errno: string): Promise<void> {
  const region = allocate();
  region.bytes.fill(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  testing().injectResolveError(Number(errno));
  region.bytes[3 * region.pageSize] = 2;
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 3']);
  region.bytes[4 * region.pageSize] = 2;
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 4']);
  assert.equal(region.bytes[3 * region.pageSize], 2);
}

export async function fatalError(): Promise<void> {
  const region = sharedRegion(1);
  const { pageSize } = region;
  const before = resources();
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  const writer = new Toucher(region.bytes, { offset: pageSize });
  uffd.writeProtect(region);
  const waiting = uffd.events().next();
  testing().injectResolveError(5);
  writer.go();
  writer.untilDone();
  assert.equal(region.bytes[pageSize], 1);
  const failed = { name: 'UffdError', code: 'ERR_UFFD_LOOP_FAILED', errno: -5 };
  await assert.rejects(waiting, failed);
  assert.throws(() => uffd.events(), failed);
  assert.throws(() => uffd.writeProtect(region), failed);
  const after = resources();
  assert.equal(after.descriptorsInUse, before.descriptorsInUse);
  until(() => resources().loops === before.loops);
  // Nothing is armed or registered any more.
  region.bytes[2 * pageSize] = 1;
  assert.deepEqual(flagsOfRegisteredMemory(), []);
  const next = Userfaultfd.open();
  next.register(region, 'write-protect');
  next.close();
  uffd.close();
}

/** Nobody has read the events yet, or somebody has and waits for more. */
export async function fatalErrorBehindEvents(reads: 'later' | 'before'): Promise<void> {
  const region = allocate(8);
  const { pageSize } = region;
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  for (const page of [0, 1, 2]) region.bytes[page * pageSize] = 1;
  const events = uffd.events();
  const seen: number[] = [];
  const reading = async (): Promise<void> => {
    for await (const event of events) seen.push((event as PageFault).offset / pageSize);
  };
  const failing = reads === 'before' ? reading() : undefined;
  testing().injectResolveError(5);
  region.bytes[3 * pageSize] = 1;
  await assert.rejects(failing ?? reading(), { code: 'ERR_UFFD_LOOP_FAILED', errno: -5 });
  assert.deepEqual(seen, [0, 1, 2]);
}

export function fatalErrorInMainThread(): void {
  const region = allocate();
  const uffd = Userfaultfd.open();
  uffd.register(region, ['missing', 'write-protect']);
  uffd.writeProtect(region);
  testing().injectResolveError(5);
  region.bytes[0] = 1;
  assert.equal(region.bytes[0], 1);
  assert.throws(() => uffd.register(allocate(), 'missing'), { code: 'ERR_UFFD_LOOP_FAILED', errno: -5 });
}

/** A loop that stands still is found out, and its userfaultfd says so. */
export async function stuckLoop(): Promise<void> {
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const waiting = uffd.events().next();
  const writer = new Toucher(region.bytes);
  testing().closeBarrier('loop-before-resolve');
  writer.go();
  writer.untilDone();
  await assert.rejects(waiting, { code: 'ERR_UFFD_LOOP_FAILED', errno: -110 });
}

// Signals

export async function signalsDuringOneFault(): Promise<void> {
  withoutWatchdog();
  const signals = 200;
  let received = 0;
  process.on('SIGUSR2', () => received++);
  const region = allocate();
  region.bytes.fill(1);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  testing().closeBarrier('loop-before-resolve');
  const conductor = new Worker(path.join(__dirname, 'loop-conductor.js'), { workerData: { signals } });
  const exited = once(conductor, 'exit');
  region.bytes[5 * region.pageSize + 1] = 2;
  assert.deepEqual(told(await bell.faultsSoFar()), ['write-protect write 5']);
  assert.deepEqual(await exited, [0]);
  // Listeners run when the event loop turns, and several signals that wait are one.
  await eventually(() => received > 0);
}

async function flood(signal: NodeJS.Signals, storm: () => Promise<void>): Promise<number> {
  let received = 0;
  process.on(signal, () => received++);
  const flooder = spawn(
    process.execPath,
    // A breath after each burst: without one the event loop has time for nothing but signals.
    [
      '-e',
      `const nap = new Int32Array(new SharedArrayBuffer(4));
       for (;;) {
         for (let i = 0; i < 50; i++) process.kill(${process.pid}, '${signal}');
         Atomics.wait(nap, 0, 0, 1);
       }`,
    ],
    { stdio: 'ignore' },
  );
  await new Promise<void>((resolve) => process.once(signal, () => resolve()));
  await storm();
  // Node.js drops signals when more wait than it has room for, and SIGCHLD must not be among them.
  flooder.kill('SIGSTOP');
  let before: number;
  do {
    before = received;
    await new Promise((resolve) => setTimeout(resolve, 20));
  } while (received > before);
  const ended = once(flooder, 'close');
  flooder.kill('SIGKILL');
  await ended;
  return received;
}

async function storm(): Promise<void> {
  const rounds = 20;
  const region = sharedRegion(400 * 4096);
  const { bytes, pageSize } = region;
  const pageCount = region.byteLength / pageSize;
  const half = Math.floor(pageCount / 2);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, ['missing', 'write-protect']);
  const writer = new Toucher(bytes, { offset: half * pageSize, stride: pageSize, count: pageCount - half });
  for (let round = 1; round <= rounds; round++) {
    uffd.writeProtect(region);
    writer.go(round);
    for (let page = 0; page < half; page++) bytes[page * pageSize] = round;
    writer.untilDone(round);
    const faults = await bell.faultsSoFar();
    const written = new Set(
      faults
        .filter(({ reason }) => reason === 'write-protect')
        .map(({ offset }) => Math.floor(offset / pageSize)),
    );
    assert.equal(written.size, pageCount, `round ${round}`);
    for (let page = 0; page < half; page++) assert.equal(bytes[page * pageSize], round);
  }
  writer.end();
  uffd.close();
}

export async function signalFlood(signal: string): Promise<void> {
  const received = await flood(signal as NodeJS.Signals, storm);
  assert.ok(received > 100, `only ${received} signals came`);
}

export async function faultStorm(): Promise<void> {
  await storm();
}
