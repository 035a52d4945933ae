// UFFDIO_MOVE, UFFDIO_CONTINUE and UFFDIO_POISON through the package, and what each ioctl says when it
// stops half way. Each function runs in a process of its own (test 34).

import assert from 'node:assert/strict';
import { randomFill } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { PageFault, Region, Userfaultfd, type Feature, type RegisterMode } from '../../lib/index.js';
import { sleepersInFault, testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';
import { nextEvent } from './conformance-support.js';
import {
  Bell,
  pages,
  ready,
  sharedRegion,
  Toucher,
  userfaultfdDescriptors,
  withoutWatchdog,
} from './loop-support.js';

const PAGE = 4096;
const PAGES = 8;

function filled(pageCount = PAGES): Region {
  const region = Region.allocate({ bytes: pageCount * PAGE });
  for (let page = 0; page < pageCount; page++) region.bytes.fill(page + 1, page * PAGE, (page + 1) * PAGE);
  return region;
}

function missing(pageCount = PAGES): { region: Region; uffd: Userfaultfd; bell: Bell } {
  const region = Region.allocate({ bytes: pageCount * PAGE });
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'missing');
  return { region, uffd, bell };
}

const firsts = (region: Region): number[] =>
  Array.from({ length: region.byteLength / PAGE }, (_, page) => region.bytes[page * PAGE]!);

// MOVE

export async function moves(): Promise<void> {
  const source = filled();
  const { region, uffd, bell } = missing();
  assert.equal(uffd.move(region, 2 * PAGE, source, { offset: 4 * PAGE, length: 3 * PAGE }), 3 * PAGE);
  // No page of it is missing now, and the source has them no more.
  assert.deepEqual(firsts(region).slice(2, 5), [5, 6, 7]);
  assert.deepEqual(firsts(source), [1, 2, 3, 4, 0, 0, 0, 8]);
  assert.ok(region.bytes.subarray(2 * PAGE, 3 * PAGE).every((byte) => byte === 5));
  const faults = await bell.faultsSoFar();
  assert.deepEqual(
    faults.map(({ pageOffset }) => pageOffset / PAGE),
    [0, 1, 5, 6, 7].filter((page) => faults.some((each) => each.pageOffset === page * PAGE)),
  );
}

export function movesHoles(): void {
  const source = Region.allocate({ bytes: PAGES * PAGE });
  source.bytes[0] = 1;
  source.bytes[2 * PAGE] = 3;
  const { region, uffd } = missing();
  // It stops at the hole, and says how far it came.
  assert.equal(uffd.move(region, 0, source), PAGE);
  assert.throws(() => uffd.move(region, PAGE, source, pages(source, 1, 2)), {
    name: 'UffdError',
    code: 'ENOENT',
    syscall: 'ioctl(UFFDIO_MOVE)',
    message: /allowHoles/,
  });
  assert.equal(uffd.move(region, PAGE, source, pages(source, 1, 2), { allowHoles: true }), 2 * PAGE);
  assert.deepEqual(firsts(region), [1, 0, 3, 0, 0, 0, 0, 0]);
}

export function refusesToMove(): void {
  const { region, uffd } = missing();
  const fails = (code: string, source: Region, offset = 0): void => {
    assert.throws(() => uffd.move(region, offset, source, pages(source, 0, 1)), { code });
  };
  // Onto a page that is there.
  uffd.zeropage(region, pages(region, 0));
  fails('EEXIST', filled());
  // Across kinds.
  const memfd = Region.allocate({ bytes: PAGE, backing: 'memfd' });
  memfd.bytes.fill(1);
  fails('EINVAL', memfd, PAGE);
  assert.equal(memfd.bytes[0], 1);
  const closed = filled();
  closed.close();
  fails('ERR_UFFD_CLOSED', closed, PAGE);
  fails('ERR_INVALID_ARG_VALUE', Region.from(new ArrayBuffer(3 * PAGE)), PAGE);
  const source = filled();
  const wrong: [unknown[], string][] = [
    [[region, 1, source], 'ERR_OUT_OF_RANGE'],
    [[region, PAGE, source, { offset: 1, length: PAGE }], 'ERR_OUT_OF_RANGE'],
    [[region, PAGE, source, { offset: 0, length: 0 }], 'ERR_OUT_OF_RANGE'],
    [[region, 4 * PAGE, source], 'ERR_OUT_OF_RANGE'],
    [[region, PAGE, source, pages(source, 0), { holes: true }], 'ERR_INVALID_ARG_VALUE'],
    [[region, PAGE, source, pages(source, 0), { allowHoles: 1 }], 'ERR_INVALID_ARG_TYPE'],
    [[region, PAGE, source.bytes], 'ERR_INVALID_ARG_TYPE'],
    [[source, 0, region, pages(region, 0)], 'ERR_UFFD_NOT_REGISTERED'],
  ];
  for (const [args, code] of wrong) {
    assert.throws(() => (uffd.move as (...given: unknown[]) => number).apply(uffd, args), { code });
  }
  assert.deepEqual(firsts(source), [1, 2, 3, 4, 5, 6, 7, 8]);
}

export async function moveWakes(): Promise<void> {
  const plain = Region.from(new WebAssembly.Memory({ initial: 1 }));
  const uffd = Userfaultfd.open();
  uffd.register(plain, 'missing', { resolve: 'handler', deadlineMs: 600_000 });
  const source = filled();
  // V8 shares no plain memory with Workers: a pool thread reads it.
  const directory = mkdtempSync(path.join(tmpdir(), 'uffd-move-'));
  const written = writeFile(path.join(directory, 'page'), plain.bytes.subarray(0, 10));
  const events = uffd.events();
  const { value } = (await events.next()) as IteratorYieldResult<PageFault>;
  assert.equal(uffd.move(plain, 0, source, pages(source, 6)), PAGE);
  await written;
  rmSync(directory, { recursive: true });
  assert.equal(plain.bytes[5], 7);
  assert.equal(value.endedBy, 'call');
}

// CONTINUE

/** Two mappings of the same memory: one is registered, the other fills it. */
function twoMappings(): { front: Region; back: Region; uffd: Userfaultfd; bell: Bell } {
  const front = Region.allocate({ bytes: PAGES * PAGE, backing: 'memfd' });
  const back = front.alias();
  const uffd = Userfaultfd.open();
  return { front, back, uffd, bell: new Bell(uffd) };
}

export async function minorFaults(): Promise<void> {
  const { front, back, uffd, bell } = twoMappings();
  const registration = uffd.register(front, ['missing', 'minor']);
  assert.ok(registration.ioctls.has('CONTINUE'));
  back.bytes.fill(4, 2 * PAGE, 4 * PAGE);
  assert.equal(front.bytes[2 * PAGE], 4);
  assert.equal(front.bytes[5 * PAGE], 0);
  const faults = await bell.faultsSoFar();
  assert.deepEqual(
    faults.map(({ reason, pageOffset, endedBy, action }) => [reason, pageOffset / PAGE, endedBy, action]),
    [
      ['minor', 2, 'loop', 'continue'],
      ['missing', 5, 'loop', 'zeropage'],
    ],
  );
  // Without a fault.
  assert.equal(uffd.continue(front, pages(front, 3)), PAGE);
  assert.equal(front.bytes[3 * PAGE], 4);
  assert.deepEqual(await bell.faultsSoFar(), []);
  assert.throws(() => uffd.continue(front, pages(front, 3)), { code: 'EEXIST' });
  assert.throws(() => uffd.continue(front, pages(front, 7)), {
    code: 'EFAULT',
    syscall: 'ioctl(UFFDIO_CONTINUE)',
    message: /not in the page cache/,
  });
}

export async function minorHandler(): Promise<void> {
  const front = Region.allocate({ bytes: PAGES * PAGE, backing: 'memfd', shared: true });
  const back = front.alias();
  const uffd = Userfaultfd.open();
  uffd.register(front, 'minor', { resolve: 'handler', deadlineMs: 600_000 });
  const events = uffd.events();
  back.bytes.fill(1);
  const reader = new Toucher(front.bytes, { offset: PAGE, access: 'read' });
  reader.go();
  const { value: fault } = (await events.next()) as IteratorYieldResult<PageFault>;
  assert.equal(fault.reason, 'minor');
  // The page may still be changed through the other mapping: nobody has seen it here.
  back.bytes.fill(9, PAGE, 2 * PAGE);
  await assert.rejects(fault.resolve(new Uint8Array(PAGE)), { code: 'ERR_INVALID_ARG_VALUE' });
  assert.equal(await fault.resolve(), true);
  assert.equal(fault.action, 'continue');
  reader.untilDone();
  assert.equal(reader.lastRead, 9);
}

/** Another mapping gave the page back: UFFDIO_CONTINUE has nothing to map. */
export async function minorGone(who: 'loop' | 'handler'): Promise<void> {
  const front = Region.allocate({ bytes: PAGES * PAGE, backing: 'memfd', shared: true });
  const back = front.alias();
  const uffd = Userfaultfd.open();
  uffd.register(front, 'minor', who === 'handler' ? { resolve: 'handler', deadlineMs: 600_000 } : {});
  back.bytes.fill(1);
  const reader = new Toucher(front.bytes, { offset: PAGE, stride: PAGE, count: 2, access: 'read' });
  const events = uffd.events();
  if (who === 'loop') testing().closeBarrier('loop-before-resolve');
  reader.go();
  if (who === 'loop') {
    untilSomebodyWaitsAt('loop-before-resolve');
    back.discard(PAGE, PAGE);
    testing().openBarrier('loop-before-resolve');
    // The loop goes on: that of the page after it is told.
    const told = await nextEvent(events);
    assert.ok(told instanceof PageFault);
    assert.deepEqual([told.pageOffset, told.action], [2 * PAGE, 'continue']);
  } else {
    const first = await nextEvent(events);
    assert.ok(first instanceof PageFault);
    back.discard(PAGE, PAGE);
    assert.equal(await first.resolve(), false);
    assert.deepEqual([first.endedBy, first.action], ['handler', 'wake']);
    const second = await nextEvent(events);
    assert.ok(second instanceof PageFault);
    assert.equal(second.pageOffset, 2 * PAGE);
    assert.equal(await second.resolve(), true);
  }
  reader.untilDone();
  assert.deepEqual([front.bytes[PAGE], front.bytes[2 * PAGE], reader.lastRead], [0, 1, 1]);
  uffd.close();
}

/** The thread sleeps on although its page is there, until wake(). */
export function fillsWithoutWake(how: 'move' | 'continue'): void {
  withoutWatchdog();
  const region =
    how === 'continue'
      ? Region.allocate({ bytes: PAGES * PAGE, backing: 'memfd', shared: true })
      : sharedRegion(PAGES * PAGE);
  const uffd = Userfaultfd.open();
  if (how === 'continue') {
    region.alias().bytes.fill(7);
    uffd.register(region, 'minor');
  } else {
    uffd.register(region, 'missing');
  }
  const reader = new Toucher(region.bytes, { offset: PAGE, access: 'read' });
  testing().closeBarrier('loop-before-read');
  reader.go();
  untilAsleepInFault(reader.tid);
  const filledBytes =
    how === 'continue'
      ? uffd.continue(region, pages(region, 1), { wake: false })
      : uffd.move(region, PAGE, filled(7), { offset: 6 * PAGE, length: PAGE }, { wake: false });
  assert.equal(filledBytes, PAGE);
  assert.equal(waiters(), 1);
  assert.deepEqual(sleepersInFault(), [reader.tid]);
  uffd.wake(region, pages(region, 1));
  reader.untilDone();
  assert.equal(reader.lastRead, 7);
  testing().openBarrier('loop-before-read');
  uffd.close();
}

/** How many threads the only userfaultfd of this process has put to sleep and not woken. */
function waiters(): number {
  const [descriptor] = userfaultfdDescriptors();
  return Number(/^total:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))![1]);
}

// POISON

/** The thread sleeps on, and finds out when it is woken. */
export function poisonsWithoutWake(): void {
  withoutWatchdog();
  const region = sharedRegion(PAGES * PAGE);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing');
  const reader = new Toucher(region.bytes, { offset: PAGE, access: 'read' });
  testing().closeBarrier('loop-before-read');
  reader.go();
  untilAsleepInFault(reader.tid);
  assert.equal(uffd.poison(region, pages(region, 1), { wake: false }), PAGE);
  assert.equal(waiters(), 1);
  assert.deepEqual(sleepersInFault(), [reader.tid]);
  ready();
  uffd.wake(region, pages(region, 1));
  reader.untilDone();
}

export function poisons(): void {
  const { region, uffd } = missing();
  uffd.zeropage(region, pages(region, 3));
  assert.equal(uffd.poison(region, pages(region, 1)), PAGE);
  assert.throws(() => uffd.poison(region, pages(region, 3)), {
    code: 'EEXIST',
    syscall: 'ioctl(UFFDIO_POISON)',
  });
  // The others are well.
  assert.equal(region.bytes[0], 0);
  assert.equal(region.bytes[3 * PAGE], 0);
  process.stdout.write('READY\n');
  region.bytes[PAGE] = 1;
}

/** A listener of Node.js is told later, and the thread faults again and again meanwhile. */
export function poisonsUnderListener(who: string, when: string): void {
  const listen = (): unknown => process.on('SIGBUS', () => undefined);
  if (when === 'before') listen();
  const { region, uffd } = missing();
  if (when === 'after') listen();
  uffd.poison(region, pages(region, 0));
  process.stdout.write('READY\n');
  if (who === 'main') region.bytes[0] = 1;
  if (who === 'worker') touchInWorker(region);
  if (who === 'pool') randomFill(region.bytes, 0, 1, () => process.exit(0));
}

export async function poisonHealed(): Promise<void> {
  const { region, uffd } = missing();
  let healed = false;
  process.on('SIGBUS', () => {
    // Told again of what came before: the page may have been written since.
    if (!healed) region.discard();
    healed = true;
  });
  uffd.poison(region, pages(region, 0));
  const [code] = (await once(touchInWorker(region), 'exit')) as [number];
  assert.equal(code, 0);
  assert.equal(region.bytes[0], 1);
  uffd.close();
}

function touchInWorker(region: Region): Worker {
  const touch = `
    const { Region } = require(process.argv[2]);
    Region.attach(require('node:worker_threads').workerData).bytes[0] = 1;`;
  const argv = [path.join(__dirname, '..', '..', 'lib', 'main.js')];
  return new Worker(touch, { eval: true, argv, workerData: region.handle });
}

/** A page that was given back is as new. */
export function poisonGoesWithThePage(): void {
  const { region, uffd } = missing();
  uffd.poison(region);
  region.discard();
  assert.deepEqual(firsts(region), [0, 0, 0, 0, 0, 0, 0, 0]);
  uffd.close();
}

/** Shared memory keeps the kernel's mark when its pages go; where it is registered it must stay so. */
export async function poisonGoesFromRegistered(mode: RegisterMode, features: string): Promise<void> {
  const asked = features === '' ? [] : (features.split(',') as Feature[]);
  const region = Region.allocate({ bytes: 4 * PAGE, backing: 'memfd' });
  const uffd = Userfaultfd.open({ features: ['POISON', 'WP_UNPOPULATED', 'WP_HUGETLBFS_SHMEM', ...asked] });
  const first = uffd.register(region, 'missing');
  uffd.poison(region, pages(region, 2));
  first.close();
  const registration = uffd.register(region, mode);
  region.discard(pages(region, 2).offset, PAGE);
  assert.equal(region.bytes[2 * PAGE], 0);
  if (mode === 'write-protect') {
    uffd.writeProtect(region);
    assert.equal(uffd.armedPages(region), 4);
    region.bytes[2 * PAGE] = 1;
    assert.equal(uffd.armedPages(region), 3);
    for await (const event of uffd) {
      if (!(event instanceof PageFault)) continue;
      assert.equal(event.pageOffset, 2 * PAGE);
      break;
    }
  }
  registration.close();
  uffd.close();
}

/** mremap(2) of no bytes makes a second mapping of shared memory: nothing moves. */
export function doubledMapping(): void {
  const region = Region.allocate({ bytes: 4 * PAGE, backing: 'memfd' });
  const uffd = Userfaultfd.open({ features: ['EVENT_REMAP'] });
  uffd.register(region, 'missing');
  assert.equal(testing().mapTwice(region.bytes.subarray(PAGE, 2 * PAGE)), undefined);
  assert.deepEqual(firsts(region), [0, 0, 0, 0]);
  uffd.close();
}

/** What may not look at its page table cannot keep a page armed while it fills it. */
export function fillsWithoutPagemap(): void {
  process.setuid!(65_534);
  const region = Region.allocate({ bytes: 4 * PAGE });
  const uffd = Userfaultfd.open();
  assert.throws(() => uffd.register(region, ['missing', 'write-protect']), {
    code: 'EACCES',
    syscall: 'open(/proc/self/pagemap)',
  });
  region.bytes[0] = 1;
  uffd.register(region, 'missing').close();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  region.bytes[PAGE] = 1;
  uffd.close();
}

// What was not asked for

export function featuresNotAskedFor(): void {
  const uffd = Userfaultfd.open({ optionalFeatures: [] });
  const region = Region.allocate({ bytes: PAGE });
  uffd.register(region, 'missing');
  const needs = (feature: string, call: () => unknown): void => {
    assert.throws(call, (error: Error & { code: string; hint: string }) => {
      assert.equal(error.code, 'ERR_UFFD_FEATURE');
      assert.match(error.hint, new RegExp(`features: \\['${feature}'`));
      return true;
    });
  };
  needs('MOVE', () => uffd.move(region, 0, filled(1)));
  needs('POISON', () => uffd.poison(region));
  needs('MINOR_SHMEM', () => uffd.register(Region.allocate({ bytes: PAGE, backing: 'memfd' }), 'minor'));
  needs('THREAD_ID', () =>
    uffd.register(Region.allocate({ bytes: PAGE }), 'missing', { resolve: 'handler' }),
  );
  assert.equal(region.bytes[0], 0);
}

// Half way (B17)

export function stopsHalfWay(): void {
  const { region, uffd } = missing();
  uffd.zeropage(region, pages(region, 5));
  const bytes = new Uint8Array(4 * PAGE).fill(3);
  const stopsAt5: Record<string, () => number> = {
    copy: () => uffd.copy(region, 3 * PAGE, bytes),
    zeropage: () => uffd.zeropage(region, pages(region, 3, 4)),
    poison: () => uffd.poison(region, pages(region, 3, 4)),
    move: () => uffd.move(region, 3 * PAGE, filled(4)),
  };
  for (const [name, call] of Object.entries(stopsAt5)) {
    assert.equal(call(), 2 * PAGE, name);
    assert.throws(() => uffd.copy(region, 5 * PAGE, bytes.subarray(0, PAGE)), { code: 'EEXIST', errno: -17 });
    region.discard(3 * PAGE, 2 * PAGE);
  }
  // The kernel arms the first half before it comes to what is registered no more: taken back.
  const half = Region.allocate({ bytes: 8 * PAGE });
  uffd.register(half, 'write-protect');
  assert.equal(testing().mapAnew(half.bytes.subarray(4 * PAGE)), undefined);
  assert.throws(() => uffd.writeProtect(half), { code: 'ENOENT', syscall: 'ioctl(UFFDIO_WRITEPROTECT)' });
  assert.equal(uffd.armedPages(half), 0);
  // Write-protecting what is not all registered arms nothing.
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 });
  const grown = Region.from(memory);
  uffd.register(grown, 'write-protect');
  memory.grow(1);
  assert.throws(() => uffd.writeProtect(grown, { offset: 0, length: 2 * 65_536 }), {
    code: 'ERR_OUT_OF_RANGE',
  });
  assert.equal(uffd.armedPages(grown), 0);
}
