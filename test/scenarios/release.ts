// Letting go of memory and descriptors while threads sleep in faults, call or fork. Each function runs
// in a process of its own (test 41).

import assert from 'node:assert/strict';
import { randomFill } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { binding } from '../../lib/binding.js';
import { Region, Userfaultfd } from '../../lib/index.js';
import { sleepersInFault, testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';
import {
  Bell,
  type CallerOrder,
  FORKS,
  flagsOfRegisteredMemory,
  pages,
  resources,
  sharedRegion,
  Toucher,
  until,
  untilSomebodySleeps,
  userfaultfdDescriptors,
  withoutWatchdog,
} from './loop-support.js';

/** One Worker asleep in a fault that the loop, held at `barrier`, has or has not read. */
function openFault(barrier: string): { uffd: Userfaultfd; region: Region; writer: Toucher } {
  withoutWatchdog();
  const region = sharedRegion(1);
  // Before the loop begins: in the middle of poll() it would be past the first barrier.
  if (barrier === 'loop-before-poll') testing().closeBarrier(barrier);
  const uffd = Userfaultfd.open();
  uffd.register(region, ['missing', 'write-protect']);
  const writer = new Toucher(region.bytes, { offset: region.pageSize });
  uffd.writeProtect(region);
  testing().closeBarrier(barrier);
  writer.go();
  untilAsleepInFault(writer.tid);
  untilSomebodyWaitsAt(barrier);
  return { uffd, region, writer };
}

export function closeFrees(barrier: string): void {
  const { uffd, region, writer } = openFault(barrier);
  uffd.close();
  writer.untilDone();
  assert.equal(region.bytes[region.pageSize], 1);
  assert.deepEqual(sleepersInFault(), []);
  assert.deepEqual(userfaultfdDescriptors(), []);
  until(() => resources().loops === 0);
  assert.deepEqual(flagsOfRegisteredMemory(), []);
}

export function unregisterFrees(barrier: string): void {
  const { uffd, region, writer } = openFault(barrier);
  uffd.unregister(region);
  writer.untilDone();
  assert.equal(region.bytes[region.pageSize], 1);
  assert.deepEqual(uffd.registrations, []);
  assert.deepEqual(flagsOfRegisteredMemory(), []);
  assert.equal(userfaultfdDescriptors().length, 1);
  testing().openBarrier(barrier);
  // The loop, which may have the fault in hand, is well.
  const again = Region.allocate({ bytes: 1 });
  uffd.register(again, 'missing');
  assert.equal(again.bytes[0], 0);
}

/** The region's own close(), with a pool thread asleep in memory that is about to go. */
export async function regionCloseFrees(barrier: string): Promise<void> {
  withoutWatchdog();
  const region = Region.allocate({ bytes: 1 });
  if (barrier === 'loop-before-poll') testing().closeBarrier(barrier);
  const uffd = Userfaultfd.open();
  const registration = uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  testing().closeBarrier(barrier);
  const filled = promisify(randomFill)(region.bytes);
  untilSomebodySleeps();
  registration.close();
  await filled;
  assert.ok(new Set(region.bytes).size > 100);
  region.close();
  assert.equal(uffd.closed, false);
}

export async function regionCloseWhileRegistered(): Promise<void> {
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  const region = Region.allocate({ bytes: 1 });
  uffd.register(region, ['missing', 'write-protect']);
  uffd.writeProtect(region);
  const { bytes } = region;
  assert.equal(uffd.registrations.length, 2);
  region.close();
  assert.equal(bytes.byteLength, 0);
  assert.equal(uffd.registrations.length, 1);
  assert.equal(flagsOfRegisteredMemory().length, 1);
  assert.throws(() => uffd.writeProtect(region), { code: 'ERR_UFFD_CLOSED' });
  region.close();
  // The rest of the userfaultfd works on.
  assert.deepEqual(await bell.eventsSoFar(), []);
}

export function closeTwice(): void {
  const region = Region.allocate({ bytes: 1 });
  const uffd = Userfaultfd.open();
  const registration = uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  uffd.close();
  // The number goes to somebody else, who must keep it.
  const files = Array.from({ length: 20 }, () => fs.openSync(__filename, 'r'));
  uffd.close();
  registration.close();
  uffd[Symbol.dispose]();
  for (const file of files) assert.ok(fs.fstatSync(file).isFile());
  region.bytes[0] = 1;
  region.close();
  region.close();
}

export function closedThrows(): void {
  const region = Region.allocate({ bytes: 1 });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.close();
  const bytes = new Uint8Array(region.pageSize);
  const next = Userfaultfd.open();
  next.register(region, 'write-protect');
  next.writeProtect(region);
  const calls: Record<string, () => unknown> = {
    register: () => uffd.register(region, 'missing'),
    unregister: () => {
      uffd.unregister(region);
    },
    writeProtect: () => {
      uffd.writeProtect(region);
    },
    unprotect: () => {
      uffd.unprotect(region);
    },
    wake: () => {
      uffd.wake(region);
    },
    copy: () => uffd.copy(region, 0, bytes),
    zeropage: () => uffd.zeropage(region),
    armedPages: () => uffd.armedPages(region),
    events: () => uffd.events(),
  };
  for (const [name, call] of Object.entries(calls)) assert.throws(call, { code: 'ERR_UFFD_CLOSED' }, name);
  // The kernel lets any userfaultfd disarm any range; a closed one did not.
  assert.equal(next.armedPages(region), 1);
}

/** Writers meet an unregister or a close at every point of their way (A3). */
export function writersMeetRelease(how: string): void {
  withoutWatchdog();
  const rounds = 300;
  const region = sharedRegion(1);
  const { pageSize } = region;
  const pageCount = region.byteLength / pageSize;
  const writers = [0, 1].map(
    (first) =>
      new Toucher(region.bytes, { offset: first * pageSize, stride: 2 * pageSize, count: pageCount / 2 }),
  );
  let uffd = Userfaultfd.open();
  for (let round = 1; round <= rounds; round++) {
    if (uffd.closed) uffd = Userfaultfd.open();
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
    for (const writer of writers) writer.go(round);
    const until = performance.now() + ((round * 7) % 100) / 250;
    while (performance.now() < until);
    if (how === 'close') uffd.close();
    else uffd.unregister(region);
    for (const writer of writers) writer.untilDone(round);
  }
  assert.deepEqual(
    writers.map(({ touched }) => touched),
    [rounds * (pageCount / 2), rounds * (pageCount / 2)],
  );
  assert.deepEqual(sleepersInFault(), []);
  for (const writer of writers) writer.end();
}

/** Forks in one thread while descriptors with EVENT_FORK close in another (A4). */
export async function forksMeetClose(): Promise<void> {
  withoutWatchdog();
  const region = Region.allocate({ bytes: 16 * 4096 });
  testing().inheritOnFork(region.bytes);
  const control = new Int32Array(new SharedArrayBuffer(12));
  const forker = startWorker({ role: 'forker', control });
  let closed = 0;
  while (Atomics.load(control, 1) < FORKS) {
    const uffd = Userfaultfd.open({ features: ['EVENT_FORK'] });
    uffd.register(region, ['missing', 'write-protect']);
    uffd.writeProtect(region);
    region.bytes[(closed % 16) * region.pageSize] = 1;
    uffd.close();
    closed++;
  }
  assert.ok(closed >= FORKS, `only ${closed} were closed meanwhile`);
  assert.deepEqual(await once(forker, 'exit'), [0]);
  assert.deepEqual(userfaultfdDescriptors(), []);
}

// A call on its way while another thread releases (C3)

function startWorker(workerData: CallerOrder): Worker {
  return new Worker(path.join(__dirname, 'release-caller.js'), { workerData });
}

function heldCall(call: NonNullable<CallerOrder['call']>): { caller: Worker; control: Int32Array } {
  const control = new Int32Array(new SharedArrayBuffer(12));
  const caller = startWorker({ role: 'caller', call, control });
  Atomics.wait(control, 0, 0);
  testing().closeBarrier('call-before-check');
  Atomics.store(control, 1, 1);
  Atomics.notify(control, 1);
  untilSomebodyWaitsAt('call-before-check');
  return { caller, control };
}

/** The release waits for the call, which is refused; only then is the number given back. */
export async function callMeetsRelease(call: string): Promise<void> {
  withoutWatchdog();
  const { caller, control } = heldCall(call as NonNullable<CallerOrder['call']>);
  const message = once(caller, 'message');
  const opened = once(startWorker({ role: 'opener', control }), 'exit');
  testing().closeBarrier('release-after-wake');
  binding().releaseAll();
  assert.deepEqual(userfaultfdDescriptors(), []);
  const files = Array.from({ length: 100 }, () => fs.openSync(__filename, 'r'));
  assert.deepEqual(await message, ['ERR_UFFD_CLOSED']);
  await opened;
  for (const file of files) assert.ok(fs.fstatSync(file).isFile());
}

/** A call that never comes back: its descriptor's number is given to nobody. */
export async function callOutlastsRelease(call: string): Promise<void> {
  withoutWatchdog();
  const { caller } = heldCall(call as NonNullable<CallerOrder['call']>);
  const message = once(caller, 'message');
  const [number] = userfaultfdDescriptors();
  assert.ok(number !== undefined);
  const before = performance.now();
  binding().releaseAll();
  assert.ok(performance.now() - before < 2000);
  const files = Array.from({ length: 100 }, () => fs.openSync(__filename, 'r'));
  assert.ok(!files.includes(number));
  testing().openBarrier('call-before-check');
  assert.deepEqual(await message, ['ERR_UFFD_CLOSED']);
  for (const file of files) assert.ok(fs.fstatSync(file).isFile());
}

/** process.exit() while a Worker's call is held: it ends, although the call comes to nothing. */
export function callMeetsExit(): void {
  const { control } = heldCall('writeProtect');
  testing().closeBarrier('release-after-wake');
  startWorker({ role: 'opener', control });
  process.exit(4);
}

/** The armed part of a released userfaultfd may be written by everybody. */
export function releaseAllDisarms(): void {
  withoutWatchdog();
  testing().closeBarrier('loop-before-poll');
  const shared = sharedRegion(1);
  const uffds = [0, 1, 2].map((each) => {
    const uffd = Userfaultfd.open();
    const region = each === 0 ? shared : Region.allocate({ bytes: 1 });
    uffd.register(region, ['missing', 'write-protect']);
    uffd.writeProtect(region, pages(region, 0));
    return { uffd, region };
  });
  const writer = new Toucher(shared.bytes);
  writer.go();
  untilAsleepInFault(writer.tid);
  binding().releaseAll();
  writer.untilDone();
  for (const { uffd, region } of uffds) {
    region.bytes[0] = 2;
    assert.throws(() => uffd.writeProtect(region), { code: 'ERR_UFFD_CLOSED' });
    uffd.close();
  }
  binding().releaseAll();
  until(() => resources().loops === 0);
}
