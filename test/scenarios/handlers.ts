// Faults that JavaScript ends, and the nets under it. Each function runs in a process of its own
// (test 32). The main thread consumes; Workers fault.

import assert from 'node:assert/strict';
import { randomBytes, randomFill } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import {
  PageFault,
  Region,
  type UffdError,
  Userfaultfd,
  type RegisterOptions,
  type UffdEvent,
} from '../../lib/index.js';
import { sleepersInFault, testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';
import type { LatecomerOrder } from './handlers-latecomer.js';
import type { ServerOrder } from './handlers-server.js';
import {
  eventually,
  pages,
  resources,
  sharedMemory,
  sharedRegion,
  Toucher,
  withoutWatchdog,
} from './loop-support.js';

/** Far beyond what a test takes, so that no deadline helps out. */
const NEVER_MS = 600_000;
const PAGE = 4096;

function page(region: Region, value: number): Uint8Array {
  return new Uint8Array(region.pageSize).fill(value);
}

interface Served {
  region: Region;
  uffd: Userfaultfd;
  events: AsyncIterableIterator<UffdEvent>;
}

/** Shared memory whose missing pages JavaScript fills. */
function serve(
  options: RegisterOptions = {},
  mode: 'missing' | 'both' = 'missing',
  region = sharedRegion(1),
): Served {
  const uffd = Userfaultfd.open({ features: ['EVENT_REMOVE'] });
  const handled: RegisterOptions = { resolve: 'handler', deadlineMs: NEVER_MS, ...options };
  const registration = uffd.register(
    region,
    mode === 'both' ? ['missing', 'write-protect'] : 'missing',
    handled,
  );
  assert.equal(registration.resolve, 'handler');
  return { region, uffd, events: uffd.events() };
}

/** Shared memory of ones, whose writes JavaScript lets through. */
function protect(): Served {
  const region = sharedRegion(1);
  region.bytes.fill(1);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect', { resolve: 'handler', deadlineMs: NEVER_MS });
  uffd.writeProtect(region);
  return { region, uffd, events: uffd.events() };
}

async function nextFault(events: AsyncIterableIterator<UffdEvent>): Promise<PageFault> {
  const { value } = (await events.next()) as IteratorYieldResult<UffdEvent>;
  assert.ok(value instanceof PageFault);
  return value;
}

function reader(region: Region, at: number): Toucher {
  const toucher = new Toucher(region.bytes, { offset: at * region.pageSize + 5, access: 'read' });
  toucher.go();
  return toucher;
}

function writer(region: Region, at: number): Toucher {
  const toucher = new Toucher(region.bytes, { offset: at * region.pageSize + 5, value: 99 });
  toucher.go();
  return toucher;
}

const done = (toucher: Toucher): Promise<void> => eventually(() => toucher.finishedRound === 1);

// What resolve() does

export async function fillsWithBytes(): Promise<void> {
  const { region, events } = serve();
  const thread = reader(region, 3);
  const fault = await nextFault(events);
  assert.equal(fault.region, region);
  assert.equal(fault.reason, 'missing');
  assert.equal(fault.access, 'read');
  assert.equal(fault.threadId, thread.tid);
  assert.equal(fault.pageOffset, 3 * region.pageSize);
  assert.deepEqual([fault.resolved, fault.endedBy, fault.action], [false, undefined, undefined]);
  untilAsleepInFault(thread.tid);
  assert.equal(await fault.resolve(page(region, 7)), true);
  await done(thread);
  assert.equal(thread.lastRead, 7);
  assert.deepEqual([fault.resolved, fault.endedBy, fault.action], [true, 'handler', 'copy']);
}

export async function fillsWithZeros(): Promise<void> {
  const { region, events } = serve();
  const thread = writer(region, 2);
  const fault = await nextFault(events);
  assert.equal(fault.access, 'write');
  assert.equal(await fault.resolve(), true);
  await done(thread);
  assert.equal(fault.action, 'zeropage');
  assert.equal(region.bytes[2 * region.pageSize + 5], 99);
}

export async function unprotects(): Promise<void> {
  const { region, uffd, events } = protect();
  const thread = writer(region, 4);
  const fault = await nextFault(events);
  assert.equal(fault.reason, 'write-protect');
  assert.equal(region.bytes[4 * region.pageSize + 5], 1);
  await assert.rejects(fault.resolve(page(region, 1)), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /missing page/,
  });
  await assert.rejects(fault.poison(), { code: 'ERR_INVALID_ARG_VALUE' });
  assert.equal(await fault.resolve(), true);
  await done(thread);
  assert.deepEqual([fault.endedBy, fault.action], ['handler', 'unprotect']);
  assert.equal(region.bytes[4 * region.pageSize + 5], 99);
  assert.equal(uffd.armedPages(region), region.byteLength / region.pageSize - 1);
}

/** D9: missing, then write-protect; B16: filling a page keeps it armed. */
export async function missingThenProtected(): Promise<void> {
  const { region, uffd, events } = serve({}, 'both');
  const count = region.byteLength / region.pageSize;
  uffd.writeProtect(region);
  const thread = writer(region, 1);
  const first = await nextFault(events);
  assert.equal(first.reason, 'missing');
  await first.resolve(page(region, 3));
  assert.equal(uffd.armedPages(region), count);
  const second = await nextFault(events);
  assert.equal(second.reason, 'write-protect');
  assert.equal(second.pageOffset, first.pageOffset);
  assert.equal(region.bytes[region.pageSize], 3);
  await second.resolve();
  await done(thread);
  assert.equal(uffd.armedPages(region), count - 1);
  assert.deepEqual([...region.bytes.subarray(region.pageSize + 4, region.pageSize + 7)], [3, 99, 3]);
}

export async function armsInTheSameStep(): Promise<void> {
  const { region, uffd, events } = serve({}, 'both');
  const thread = reader(region, 1);
  const fault = await nextFault(events);
  assert.equal(uffd.armedPages(region), 0);
  await fault.resolve(page(region, 3), { writeProtect: true });
  await done(thread);
  assert.equal(uffd.armedPages(region), 1);
}

export async function eightThreadsOnePage(): Promise<void> {
  const { region, uffd, events } = serve();
  const threads = Array.from({ length: 8 }, () => reader(region, 5));
  for (const { tid } of threads) untilAsleepInFault(tid);
  const fault = await nextFault(events);
  await fault.resolve(page(region, 8));
  for (const thread of threads) await done(thread);
  assert.deepEqual([...new Set(threads.map(({ lastRead }) => lastRead))], [8]);
  // One fault: the next event is of another page.
  const other = reader(region, 6);
  const next = await nextFault(events);
  assert.equal(next.pageOffset, 6 * region.pageSize);
  await next.resolve();
  await done(other);
  uffd.close();
}

export async function faultsAreIndependent(): Promise<void> {
  const { region, events } = serve();
  const threads = [9, 2, 7, 4].map((at) => reader(region, at));
  const faults: PageFault[] = [];
  for (let i = 0; i < 4; i++) faults.push(await nextFault(events));
  // In any order, and the others stay.
  faults.sort((a, b) => a.offset - b.offset);
  for (const [i, fault] of faults.entries()) {
    await eventually(() => sleepersInFault().length === 4 - i);
    await fault.resolve(page(region, fault.pageOffset / region.pageSize));
    await eventually(() => sleepersInFault().length === 3 - i);
  }
  for (const thread of threads) await done(thread);
  assert.deepEqual(
    threads.map(({ lastRead }) => lastRead),
    [9, 2, 7, 4],
  );
}

// Bad input

export async function resolvesTwice(): Promise<void> {
  const { region, events } = serve();
  const thread = reader(region, 0);
  const fault = await nextFault(events);
  await fault.resolve(page(region, 1));
  const twice = { name: 'UffdError', code: 'ERR_UFFD_FAULT_ENDED', message: /earlier resolve/ };
  await assert.rejects(fault.resolve(page(region, 2)), twice);
  await assert.rejects(fault.poison(), twice);
  await done(thread);
  assert.equal(thread.lastRead, 1);
}

export async function refusesOtherBytes(): Promise<void> {
  const { region, uffd, events } = serve();
  const { pageSize } = region;
  const thread = reader(region, 0);
  const fault = await nextFault(events);
  const wrong: [unknown, string, RegExp][] = [
    [new Uint8Array(pageSize - 1), 'ERR_OUT_OF_RANGE', /one page of this region/],
    [new Uint8Array(pageSize + 1), 'ERR_OUT_OF_RANGE', /one page/],
    [new Uint8Array(2 * pageSize), 'ERR_OUT_OF_RANGE', /one page/],
    [new Uint8Array(0), 'ERR_OUT_OF_RANGE', /one page/],
    [
      Object.defineProperty(new Uint8Array(8), 'byteLength', { value: pageSize }),
      'ERR_OUT_OF_RANGE',
      /one page/,
    ],
    ['bytes', 'ERR_INVALID_ARG_TYPE', /ArrayBuffer/],
    [null, 'ERR_INVALID_ARG_TYPE', /ArrayBuffer/],
    [region.bytes.subarray(pageSize, 2 * pageSize), 'ERR_UFFD_SOURCE_REGISTERED', /could wait/],
  ];
  for (const [bytes, code, message] of wrong) {
    await assert.rejects(fault.resolve(bytes as Uint8Array), { code, message });
  }
  const detached = new ArrayBuffer(pageSize);
  structuredClone(detached, { transfer: [detached] });
  await assert.rejects(fault.resolve(detached), { code: 'ERR_UFFD_DETACHED' });
  await assert.rejects(fault.resolve(page(region, 1), { wake: false } as object), {
    code: 'ERR_INVALID_ARG_VALUE',
  });
  assert.equal(fault.resolved, false);
  // Nothing of that ended it.
  untilAsleepInFault(thread.tid);
  await fault.resolve(page(region, 1));
  await done(thread);
  await assert.rejects(fault.resolve(region.bytes.subarray(pageSize, 2 * pageSize)), {
    code: 'ERR_UFFD_FAULT_ENDED',
  });
  uffd.close();
}

export async function resolvesAfterClose(how: string): Promise<void> {
  const { region, uffd, events } = serve();
  const thread = reader(region, 0);
  const fault = await nextFault(events);
  if (how === 'close') uffd.close();
  if (how === 'unregister') uffd.unregister(region);
  if (how === 'registration') uffd.registrations[0]!.close();
  await done(thread);
  assert.equal(fault.resolved, true);
  assert.equal(fault.endedBy, 'closed');
  await assert.rejects(fault.resolve(page(region, 1)), { code: 'ERR_UFFD_FAULT_ENDED', message: /closed/ });
}

/** Nobody looked at it in between. */
export async function endedBeforeClose(): Promise<void> {
  const { region, uffd, events } = serve({ deadlineMs: 50, fallback: 'zeropage' });
  const thread = reader(region, 0);
  const fault = await nextFault(events);
  await done(thread);
  uffd.close();
  await assert.rejects(fault.resolve(), { code: 'ERR_UFFD_FAULT_ENDED', message: /deadline/ });
  assert.deepEqual([fault.endedBy, fault.action], ['deadline', 'zeropage']);
}

/** Whoever waits for the handler gets what the loop would have given, and no zeros. */
export async function closesWithSource(how: string): Promise<void> {
  const source = Region.allocate({ bytes: 1 << 16 });
  source.bytes.fill(6);
  const { region, uffd, events } = serve(
    { source },
    'missing',
    Region.allocate({ bytes: 1 << 16, shared: true }),
  );
  const threads = [0, 3].map((at) => reader(region, at));
  const faults = [await nextFault(events), await nextFault(events)];
  if (how === 'close') uffd.close();
  if (how === 'unregister') uffd.unregister(region);
  if (how === 'registration') uffd.registrations[0]!.close();
  if (how === 'region') region.close();
  for (const thread of threads) {
    await done(thread);
    assert.equal(thread.lastRead, 6);
  }
  for (const fault of faults) assert.deepEqual([fault.endedBy, fault.action], ['closed', 'copy']);
}

/** What an option cannot do is said, and the fault stays open. */
export async function refusesToArm(): Promise<void> {
  const { region, uffd, events } = serve();
  const thread = reader(region, 1);
  const missing = await nextFault(events);
  await assert.rejects(missing.resolve(page(region, 3), { writeProtect: true }), {
    code: 'ERR_UFFD_NOT_REGISTERED',
    message: /mode "write-protect"/,
  });
  assert.equal(missing.resolved, false);
  await missing.resolve(page(region, 3));
  await done(thread);
  uffd.unregister(region);
  uffd.register(region, 'write-protect', { resolve: 'handler', deadlineMs: NEVER_MS });
  uffd.writeProtect(region);
  const second = writer(region, 1);
  const armed = await nextFault(events);
  await assert.rejects(armed.resolve(undefined, { writeProtect: true }), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /missing or minor fault/,
  });
  assert.equal(armed.resolved, false);
  await armed.resolve();
  await done(second);
}

/** Features that a handler would need, or that leave it nothing to do. */
export async function featuresOfHandlers(): Promise<void> {
  const region = sharedRegion(1);
  const signals = Userfaultfd.open({ features: ['SIGBUS'] });
  assert.throws(() => signals.register(region, 'missing', { resolve: 'handler' }), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /SIGBUS/,
  });
  const uffd = Userfaultfd.open({ optionalFeatures: ['THREAD_ID'] });
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: NEVER_MS });
  const thread = reader(region, 0);
  const fault = await nextFault(uffd.events());
  await assert.rejects(fault.poison(), { code: 'ERR_UFFD_FEATURE', message: /POISON/ });
  assert.equal(fault.resolved, false);
  await fault.resolve();
  await done(thread);
  assert.equal(thread.lastRead, 0);
}

// The nets

export async function deadlinePasses(net: string): Promise<void> {
  const fallback = net === 'zeropage' ? 'zeropage' : undefined;
  const source = net === 'source' ? Region.allocate({ bytes: 1 << 16 }) : undefined;
  source?.bytes.fill(6);
  const { region, events } = serve({
    deadlineMs: 50,
    ...(fallback === undefined ? {} : { fallback }),
    ...(source === undefined ? {} : { source }),
  });
  const began = performance.now();
  const thread = reader(region, 2);
  const fault = await nextFault(events);
  await done(thread);
  assert.ok(performance.now() - began >= 45, 'not before its time');
  assert.equal(thread.lastRead, source === undefined ? 0 : 6);
  // Asked first: nobody has looked at how it ended.
  await assert.rejects(fault.resolve(region.bytes.subarray(0, region.pageSize)), {
    code: 'ERR_UFFD_FAULT_ENDED',
    message: /deadline/,
  });
  assert.equal(fault.endedBy, 'deadline');
  assert.equal(fault.action, source === undefined ? 'zeropage' : 'copy');
  await assert.rejects(fault.resolve(page(region, 1)), { code: 'ERR_UFFD_FAULT_ENDED', message: /deadline/ });
  assert.equal(thread.lastRead, source === undefined ? 0 : 6);
}

export async function deadlineOfWrites(): Promise<void> {
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect', { resolve: 'handler', deadlineMs: 20 });
  uffd.writeProtect(region);
  const events = uffd.events();
  const thread = writer(region, 2);
  const fault = await nextFault(events);
  await done(thread);
  assert.deepEqual([fault.endedBy, fault.action], ['deadline', 'unprotect']);
}

/** Each its own deadline, the loop asleep until the first of them. */
export async function deadlinesDiffer(): Promise<void> {
  const uffd = Userfaultfd.open();
  const order: number[] = [];
  const threads = [900, 100, 500].map((deadlineMs) => {
    const region = sharedRegion(1);
    uffd.register(region, 'missing', { resolve: 'handler', deadlineMs });
    return { deadlineMs, toucher: new Toucher(region.bytes) };
  });
  // A thread takes its time to start, so all are there before the first faults.
  for (const { toucher } of threads) toucher.go();
  await Promise.all(
    threads.map(async ({ deadlineMs, toucher }) => {
      await done(toucher);
      order.push(deadlineMs);
    }),
  );
  assert.deepEqual(order, [100, 500, 900]);
}

/** Read by nobody, and not yet by somebody: the deadline counts. */
export async function nobodyBegan(): Promise<void> {
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 50 });
  const early = reader(region, 0);
  await done(early);
  // Who had given up before it began is no consumer that left.
  await assert.rejects(uffd.events({ signal: AbortSignal.abort() }).next(), { name: 'AbortError' });
  // What waits until a consumer comes is handed to it.
  const patient = sharedRegion(1);
  uffd.register(patient, 'missing', { resolve: 'handler', deadlineMs: NEVER_MS });
  const later = reader(patient, 1);
  untilAsleepInFault(later.tid);
  const events = uffd.events();
  const told = [await nextFault(events), await nextFault(events)];
  assert.deepEqual(
    told.map(({ endedBy }) => endedBy),
    ['deadline', undefined],
  );
  await told[1]!.resolve(page(patient, 5));
  await done(later);
  assert.equal(later.lastRead, 5);
}

async function leave(how: string, served: Served): Promise<void> {
  const { uffd, events } = served;
  await events.return!();
  const controller = new AbortController();
  const loop = (async () => {
    for await (const event of uffd.events({ signal: controller.signal })) {
      assert.ok(event instanceof PageFault);
      if (how === 'abort') controller.abort();
      if (how === 'throw') throw new Error('thrown by the handler');
      if (how === 'break') break;
      if (how === 'closeRegion') served.region.close();
    }
  })();
  if (how === 'throw') return assert.rejects(loop, /thrown by the handler/);
  if (how === 'abort') return assert.rejects(loop, { name: 'AbortError' });
  return loop;
}

/** More open faults than the loop ends at a time. */
export async function consumerLeavesMany(): Promise<void> {
  const region = sharedRegion(1 << 20);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: NEVER_MS });
  const events = uffd.events();
  const threads = Array.from({ length: 70 }, (_, at) => reader(region, at));
  await eventually(() => sleepersInFault().length === threads.length);
  await events.return!();
  for (const thread of threads) await done(thread);
}

export async function consumerLeaves(how: string): Promise<void> {
  const served = serve();
  const { region, uffd } = served;
  const leaving = leave(how, served);
  const threads = [1, 2, 3].map((at) => reader(region, at));
  await leaving;
  for (const thread of threads) await done(thread);
  // And those that come after.
  const later = reader(region, 4);
  await done(later);
  const events = uffd.events();
  const told: PageFault[] = [];
  for (let i = 0; i < 3; i++) told.push(await nextFault(events));
  assert.deepEqual([...new Set(told.map(({ endedBy }) => endedBy))], ['no-consumer']);
  // A new consumer serves again.
  const again = reader(region, 5);
  const fault = await nextFault(events);
  await fault.resolve(page(region, 5));
  await done(again);
  assert.equal(again.lastRead, 5);
}

/** D1: the consumer's own faults, in a program that has one thread. */
export async function ownFaults(): Promise<void> {
  const rounds = 10_000;
  const region = Region.allocate({ bytes: 1 << 16 });
  const count = region.byteLength / region.pageSize;
  const uffd = Userfaultfd.open();
  uffd.register(region, ['missing', 'write-protect'], { resolve: 'handler', deadlineMs: NEVER_MS });
  const ended = new Map<string, number>();
  const consuming = (async () => {
    for await (const event of uffd) {
      assert.ok(event instanceof PageFault);
      assert.equal(event.resolved, true);
      const what = `${event.reason} ${event.endedBy} ${event.action}`;
      ended.set(what, (ended.get(what) ?? 0) + 1);
    }
  })();
  for (let i = 0; i < rounds; i++) {
    const at = (i % count) * region.pageSize;
    if (i % count === 0) uffd.writeProtect(region);
    region.bytes[at] = i;
    assert.equal(region.bytes[at], i & 0xff);
    if (i % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  uffd.close();
  await consuming;
  assert.equal(ended.get('missing own-thread zeropage'), count);
  assert.equal(ended.get('write-protect own-thread unprotect'), rounds);
}

/** The other way to end a fault: a call that fills its page. */
export async function endedByCall(): Promise<void> {
  const { region, uffd, events } = serve({}, 'both');
  const first = reader(region, 0);
  const filled = await nextFault(events);
  uffd.copy(region, 0, page(region, 4));
  await done(first);
  assert.deepEqual([filled.endedBy, filled.action], ['call', 'wake']);
  await assert.rejects(filled.resolve(), { code: 'ERR_UFFD_FAULT_ENDED', message: /another call/ });

  uffd.writeProtect(region, pages(region, 0));
  const second = writer(region, 0);
  const armed = await nextFault(events);
  uffd.unprotect(region, pages(region, 0));
  uffd.writeProtect(region, pages(region, 0));
  await eventually(() => armed.resolved);
  assert.equal(armed.endedBy, 'call');
  // Protection that came after stays (B13), whether or not the writer was faster.
  await eventually(() => second.finishedRound === 1 || sleepersInFault().includes(second.tid));
  if (second.finishedRound === 0) await (await nextFault(events)).resolve();
  await done(second);

  const third = reader(region, 3);
  const woken = await nextFault(events);
  uffd.wake(region, pages(region, 3));
  assert.equal(woken.endedBy, 'call');
  // It resolved nothing: the thread faults again.
  const again = await nextFault(events);
  assert.equal(again.pageOffset, woken.pageOffset);
  await again.resolve(page(region, 2));
  await done(third);
  assert.equal(third.lastRead, 2);
}

/** B23: bytes fetched for a page must not be installed once the page was given back. */
export async function removedWhileOpen(): Promise<void> {
  const { region, events } = serve();
  const thread = reader(region, 3);
  const fault = await nextFault(events);
  region.discard(3 * region.pageSize, region.pageSize);
  await assert.rejects(fault.resolve(page(region, 9)), {
    code: 'ERR_UFFD_FAULT_ENDED',
    message: /given back/,
  });
  await done(thread);
  assert.equal(thread.lastRead, 0);
  assert.equal(fault.endedBy, 'removed');
  await eventually(() => fault.action === 'zeropage');
  const { value } = (await events.next()) as IteratorYieldResult<UffdEvent>;
  assert.deepEqual(value, { type: 'remove', region, offset: 3 * region.pageSize, length: region.pageSize });
}

async function discarder(region: Region, memory: WebAssembly.Memory, order: object): Promise<Worker> {
  const range = { offset: 3 * region.pageSize, length: region.pageSize };
  const workerData = { memory, ...range, ...order };
  const worker = new Worker(path.join(__dirname, 'handlers-discarder.js'), { workerData });
  await once(worker, 'online');
  return worker;
}

/** B23: given back between the claim of the handler and its answer. */
export async function removedWhileClaimed(): Promise<void> {
  withoutWatchdog();
  const memory = sharedMemory(1);
  const { region, events } = serve({}, 'missing', Region.from(memory));
  const thread = reader(region, 3);
  const fault = await nextFault(events);
  testing().closeBarrier('resolve-after-claim');
  const worker = await discarder(region, memory, { after: 'resolve-after-claim' });
  const exited = once(worker, 'exit');
  // Blocks this thread at the barrier until the page is gone.
  await assert.rejects(fault.resolve(page(region, 9)), {
    code: 'ERR_UFFD_FAULT_ENDED',
    message: /given back/,
  });
  assert.deepEqual(await exited, [0]);
  await done(thread);
  assert.equal(thread.lastRead, 0);
  assert.equal(region.bytes[3 * region.pageSize], 0);
  assert.equal(fault.endedBy, 'removed');
}

/** B23: the loop has read that it was given back, so the discard returned, and has not applied it yet. */
export async function removedAndNotApplied(): Promise<void> {
  withoutWatchdog();
  const memory = sharedMemory(1);
  const { region, events } = serve({}, 'missing', Region.from(memory));
  const thread = reader(region, 3);
  const fault = await nextFault(events);
  testing().closeBarrier('server-before-lost');
  const worker = await discarder(region, memory, { whileHeldAt: 'server-before-lost' });
  const exited = once(worker, 'exit');
  assert.deepEqual(await once(worker, 'message'), ['gone']);
  // Waits for the loop, which goes on when this thread waits.
  await assert.rejects(fault.resolve(page(region, 9)), { code: 'ERR_UFFD_FAULT_ENDED' });
  assert.deepEqual(await exited, [0]);
  await done(thread);
  assert.equal(thread.lastRead, 0);
  assert.equal(region.bytes[3 * region.pageSize], 0);
  assert.equal(fault.endedBy, 'removed');
}

/** A claim is held past the deadline; meanwhile another thread faults on the page. */
export async function claimHeld(): Promise<void> {
  withoutWatchdog();
  const deadlineMs = 1000;
  const { region, events } = serve({ deadlineMs });
  const [first, second] = [0, 1].map(
    () => new Toucher(region.bytes, { offset: 3 * region.pageSize, access: 'read' }),
  ) as [Toucher, Toucher];
  testing().closeBarrier('resolve-after-claim');
  const conductor = new Worker(path.join(__dirname, 'handlers-conductor.js'), {
    workerData: { barrier: 'resolve-after-claim', tid: second.tid, pastMs: deadlineMs + 100 },
  });
  await once(conductor, 'online');
  const exited = once(conductor, 'exit');
  first.go();
  const fault = await nextFault(events);
  second.go();
  // Blocks this thread at the barrier until the conductor opens it.
  assert.equal(await fault.resolve(page(region, 7)), true);
  assert.deepEqual(await exited, [0]);
  await done(first);
  await done(second);
  assert.deepEqual([first.lastRead, second.lastRead], [7, 7]);
  assert.deepEqual([fault.endedBy, fault.action], ['handler', 'copy']);
}

/** A woken thread faults again before its fault has ended: it must not be forgotten with that. */
export async function faultsAgainWhileWoken(): Promise<void> {
  withoutWatchdog();
  const { region, uffd, events } = serve();
  const thread = reader(region, 3);
  const fault = await nextFault(events);
  testing().closeBarrier('wake-before-woken');
  const conductor = new Worker(path.join(__dirname, 'handlers-conductor.js'), {
    workerData: { barrier: 'wake-before-woken', tid: thread.tid, pastMs: 50 },
  });
  uffd.wake(region, pages(region, 3));
  assert.deepEqual(await once(conductor, 'exit'), [0]);
  assert.equal(fault.endedBy, 'call');
  await (await nextFault(events)).resolve(page(region, 6));
  await done(thread);
  assert.equal(thread.lastRead, 6);
}

/** Attached when the answer had woken everybody: only the end can wake it. */
export async function comesBeforeTheEnd(): Promise<void> {
  withoutWatchdog();
  const memory = sharedMemory(1);
  const region = Region.from(memory);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: NEVER_MS });
  const events = uffd.events();
  const thread = reader(region, 3);
  const fault = await nextFault(events);
  testing().closeBarrier('resolve-before-finish');
  const workerData: LatecomerOrder = { memory, page: 3, control: thread.control };
  const latecomer = new Worker(path.join(__dirname, 'handlers-latecomer.js'), { workerData });
  const told = once(latecomer, 'message');
  await once(latecomer, 'online');
  // Blocks this thread at the barrier until the Worker opens it.
  assert.equal(await fault.resolve(page(region, 7)), true);
  await done(thread);
  assert.equal(thread.lastRead, 7);
  await (await nextFault(events)).resolve(page(region, 8));
  assert.deepEqual(await told, [8]);
}

/** Its fault is read together with that of a Worker on the same page, which is not ended but handed over. */
export async function ownFaultBesideAnother(): Promise<void> {
  withoutWatchdog();
  const { region, events } = serve();
  testing().closeBarrier('loop-before-read');
  const thread = reader(region, 3);
  untilSomebodyWaitsAt('loop-before-read');
  const conductor = new Worker(path.join(__dirname, 'handlers-conductor.js'), {
    workerData: { barrier: 'loop-before-read', tid: process.pid, pastMs: 0 },
  });
  assert.equal(region.bytes[3 * region.pageSize], 0);
  assert.deepEqual(await once(conductor, 'exit'), [0]);
  await done(thread);
  const faults = [await nextFault(events), await nextFault(events)];
  for (const fault of faults) assert.deepEqual([fault.resolved, fault.endedBy], [true, 'own-thread']);
}

/** A fault that ended with another's must not strip the protection that came since (B13). */
export async function ownWriteEndsOthers(): Promise<void> {
  const { region, uffd, events } = protect();
  const thread = writer(region, 4);
  const fault = await nextFault(events);
  untilAsleepInFault(thread.tid);
  region.bytes[4 * region.pageSize] = 2;
  await done(thread);
  assert.deepEqual([fault.resolved, fault.endedBy], [true, 'own-thread']);
  uffd.writeProtect(region);
  await assert.rejects(fault.resolve(), { code: 'ERR_UFFD_FAULT_ENDED' });
  assert.equal(uffd.armedPages(region), region.byteLength / region.pageSize);
}

/** Somebody else's fault waits whenever the loop has ended one: who is due must not wait for a pause. */
export async function deadlineInAFlood(): Promise<void> {
  withoutWatchdog();
  const uffd = Userfaultfd.open({ features: ['EVENT_REMOVE'] });
  const handled = sharedRegion(1);
  uffd.register(handled, 'missing', { resolve: 'handler', deadlineMs: 20 });
  const sourced = sharedRegion(1);
  uffd.register(sourced, 'missing', { source: Region.allocate({ bytes: sourced.byteLength }) });
  const events = uffd.events();
  testing().closeBarrier('server-before-load');
  const first = reader(sourced, 1);
  untilSomebodyWaitsAt('server-before-load');
  const waiting = reader(handled, 1);
  untilAsleepInFault(waiting.tid);
  const second = reader(sourced, 2);
  untilAsleepInFault(second.tid);
  // Both are read in the next batch, and the deadline passes while the second is served.
  testing().closeBarrier('server-after-load');
  testing().openBarrier('server-before-load');
  untilSomebodyWaitsAt('server-after-load');
  testing().closeBarrier('server-before-load');
  testing().openBarrier('server-after-load');
  untilSomebodyWaitsAt('server-before-load');
  let fault = await nextFault(events);
  while (fault.region !== handled) fault = await nextFault(events);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 40);
  const third = reader(sourced, 3);
  untilAsleepInFault(third.tid);
  testing().closeBarrier('server-after-load');
  testing().openBarrier('server-before-load');
  untilSomebodyWaitsAt('server-after-load');
  testing().closeBarrier('server-before-load');
  testing().openBarrier('server-after-load');
  // The loop has the third in its hands now, and did not end the due one after that.
  untilSomebodyWaitsAt('server-before-load');
  await done(waiting);
  assert.equal(fault.endedBy, 'deadline');
  testing().openBarrier('server-before-load');
  for (const thread of [first, second, third]) await done(thread);
}

/** There is always one more fault, since a handler takes its time, and all the same timers run. */
export async function timersInAFlood(): Promise<void> {
  const FAULTS = 256;
  const THREADS = 4;
  const region = Region.allocate({ bytes: THREADS * FAULTS * PAGE, backing: 'memfd', shared: true });
  const { uffd, events } = serve({}, 'missing', region);
  const threads = Array.from({ length: THREADS }, (_, i) => {
    const offset = i * FAULTS * PAGE;
    return new Toucher(region.bytes, { offset, stride: PAGE, count: FAULTS, access: 'read' });
  });
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  for (const thread of threads) thread.go();
  const bytes = page(region, 7);
  let left = THREADS * FAULTS;
  for await (const fault of events) {
    for (const end = performance.now() + 0.3; performance.now() < end;);
    await (fault as PageFault).resolve(bytes);
    if (--left === 0) break;
  }
  clearInterval(timer);
  for (const thread of threads) await done(thread);
  assert.ok(ticks >= 10, `a timer of a millisecond ran ${ticks} times`);
  uffd.close();
  assert.ok(region.bytes.every((byte) => byte === 7));
}

/** A loop that stands still with a handler's fault overdue is found out. */
export async function stuckWithOpenFault(): Promise<void> {
  const { region, uffd, events } = serve({ deadlineMs: 500 });
  const thread = reader(region, 3);
  const fault = await nextFault(events);
  testing().closeBarrier('loop-before-read');
  untilSomebodyWaitsAt('loop-before-read');
  assert.equal(fault.resolved, false);
  await done(thread);
  await assert.rejects(events.next(), { code: 'ERR_UFFD_LOOP_FAILED', errno: -110 });
  assert.throws(() => uffd.writeProtect(region), { code: 'ERR_UFFD_LOOP_FAILED' });
  await eventually(() => resources().loops === 0);
}

/** Only a net or a handler that asks for it may do this: the thread gets SIGBUS. */
export async function poisons(how: string): Promise<void> {
  const { region, uffd, events } = serve({
    ...(how === 'handler' ? {} : { fallback: 'poison' }),
    ...(how === 'deadline' ? { deadlineMs: 1000 } : {}),
  });
  reader(region, 3);
  const fault = await nextFault(events);
  process.stdout.write('READY\n');
  if (how === 'handler') await fault.poison();
  if (how === 'unregister') uffd.unregister(region);
  await new Promise(() => undefined);
}

// A Worker serves the main thread

function serverOf(order: ServerOrder): Worker {
  return new Worker(path.join(__dirname, 'handlers-server.js'), { workerData: order });
}

/** A file of random bytes, and shared memory of its size. */
function randomFile(pageCount: number): { file: string; content: Buffer; memory: WebAssembly.Memory } {
  const content = randomBytes(pageCount * 4096);
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'uffd-handlers-')), 'content');
  writeFileSync(file, content);
  return { file, content, memory: sharedMemory(content.byteLength) };
}

export async function workerServesMainThread(): Promise<void> {
  const { file, content, memory } = randomFile(10_000);
  try {
    const worker = serverOf({ file, memory, deadlineMs: NEVER_MS });
    await once(worker, 'message');
    const bytes = Buffer.from(memory.buffer, 0, content.byteLength);
    // In no order that a reader ahead could guess: 7,919 is prime to the number of pages.
    for (let i = 0; i < 10_000; i++) {
      const at = ((i * 7919) % 10_000) * 4096;
      assert.equal(bytes.compare(content, at, at + 4096, at, at + 4096), 0, `page ${at / 4096}`);
    }
    await worker.terminate();
    assert.equal(bytes.compare(content), 0);
  } finally {
    rmSync(path.dirname(file), { recursive: true });
  }
}

/** Whatever becomes of the handler, the main thread goes on, and learns why. */
export async function workerGoesWrong(how: 'never' | 'throw' | 'exit'): Promise<void> {
  const { file, content, memory } = randomFile(64);
  try {
    const worker = serverOf({ file, memory, deadlineMs: 1000, goesWrongAfter: 10, how });
    await once(worker, 'message');
    const ended = how === 'never' ? undefined : once(worker, how === 'throw' ? 'error' : 'exit');
    const bytes = new Uint8Array(memory.buffer);
    const right = (at: number): boolean => bytes[at * 4096] === content[at * 4096];
    const began = performance.now();
    for (let at = 0; at < 10; at++) assert.ok(right(at));
    // This one was asked for and never given.
    assert.equal(bytes[10 * 4096], 0);
    assert.ok(performance.now() - began < 5000);
    if (how === 'throw') assert.match(String((await ended)![0]), /the handler threw/);
    if (how === 'exit') assert.deepEqual(await ended, [3]);
    await worker.terminate();
  } finally {
    rmSync(path.dirname(file), { recursive: true });
  }
}

/** D2: every pool thread sleeps in a fault whose handler needs the pool. */
export async function poolIsAsleep(): Promise<void> {
  const region = Region.allocate({ bytes: 16 * 4096 });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 200 });
  const endings: string[] = [];
  const serving = (async () => {
    for await (const fault of uffd) {
      assert.ok(fault instanceof PageFault);
      // Needs a pool thread, and there is none until the deadline has passed.
      const bytes = (await readFile(process.execPath)).subarray(0, region.pageSize);
      await fault.resolve(bytes).catch((error: unknown) => endings.push((error as UffdError).code));
    }
  })();
  const fill = promisify(randomFill);
  const views = [0, 1, 2, 3].map((i) => region.bytes.subarray(i * 4 * 4096, i * 4 * 4096 + 4096));
  await Promise.all(views.map((view) => fill(view)));
  for (const view of views) assert.ok(new Set(view).size > 50);
  // The events wait for a pool thread too; what was late is told so.
  await eventually(() => endings.length === 4);
  assert.deepEqual(new Set(endings), new Set(['ERR_UFFD_FAULT_ENDED']));
  uffd.close();
  await serving;
}
