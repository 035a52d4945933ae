// Every errno that an ioctl of this package can meet: one row each, in a process of its own (test 39).
// docs/errors.md has the same rows for its readers. The stages are in errno-stages.ts.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { isFailure } from '../../lib/binding.js';
import { DirtyTracker, PageFault, Region, Userfaultfd } from '../../lib/index.js';
import { ENOUGH } from '../support/mapping-limit.js';
import type { ScenarioOptions } from '../support/scenario.js';
import { sleepersInFault, testing, untilAsleepInFault } from '../support/testing.js';
import { ForkedChild, inherit } from './conformance-child.js';
import { NEVER_MS, nextEvent, nextFault } from './conformance-support.js';
import { PAGE, pageRun, pagesOf } from './dirty-support.js';
import {
  assertRefused,
  changing,
  ERRNO,
  FILLS,
  refuse,
  refusal,
  Stage,
  temporaryDirectory,
  withHugePage,
  type Fill,
} from './errno-stages.js';
import {
  eventually,
  flagsOfRegisteredMemory,
  pages,
  Toucher,
  userfaultfdDescriptors,
} from './loop-support.js';
import * as limit from './mapping-limit.js';

export interface Row {
  /** UFFDIO_* without that, or PAGEMAP_SCAN. */
  call: string;
  /** Several: what holds is the same. */
  errno: string;
  /** Goes on after "when". */
  when: string;
  /** `provoked`: the kernel itself says it. `injected`: a seccomp filter (or the test build) says it. */
  how: 'provoked' | 'injected';
  run: () => void | Promise<void>;
  options?: ScenarioOptions;
}

const SHORTAGE = /vm\.max_map_count/;

// Filling pages

function fillRows(fill: Fill): Row[] {
  const call = fill;
  const provoked = (errno: string, when: string, run: Row['run'], options?: ScenarioOptions): Row => ({
    call,
    errno,
    when,
    how: 'provoked',
    run,
    ...(options === undefined ? {} : { options }),
  });
  const injected = (errno: string, hint?: RegExp): Row => ({
    call,
    errno,
    when: 'the kernel says so to any page',
    how: 'injected',
    run: async () => fillRefused(fill, errno, hint),
  });
  const gone = fill === 'MOVE' ? 'EINVAL' : 'ENOENT';
  return [
    provoked('EEXIST', 'the first page exists, and when one half way does', async () => fillMeetsPage(fill)),
    provoked(gone, 'all or the second half of the range was mapped anew', async () => fillMeetsGone(fill)),
    provoked('EAGAIN', 'an event of the changing mapping is not read', async () => fillMeetsChange(fill)),
    injected('ENOMEM', SHORTAGE),
    injected('EINVAL'),
    injected('EFAULT'),
    injected('ESRCH'),
  ];
}

/** What exists stops it there, and what comes before is filled. */
async function fillMeetsPage(fill: Fill): Promise<void> {
  const stage = await Stage.open(fill);
  stage.make(3);
  assertRefused(
    refusal(() => stage.fill(3)),
    fill,
    'EEXIST',
    /exists already|mapped already/,
  );
  stage.make(7);
  assert.equal(stage.fill(5, 4), 2 * PAGE, 'as far as it came');
  // The page behind it is as it was.
  assert.equal(stage.fill(8), PAGE);
  stage.expectSleeper();
  // The documented way: its page is filled, or woken.
  await stage.end();
}

/** Nothing of it is filled, also not the half that is there. */
async function fillMeetsGone(fill: Fill): Promise<void> {
  const stage = await Stage.open(fill);
  assert.equal(testing().mapAnew(stage.region.bytes.subarray(8 * PAGE)), undefined);
  const errno = fill === 'MOVE' ? 'EINVAL' : 'ENOENT';
  const hint = fill === 'MOVE' ? /destination registered/ : /one mapping .*fill each part/;
  assertRefused(
    refusal(() => stage.fill(9)),
    fill,
    errno,
    hint,
  );
  assertRefused(
    refusal(() => stage.fill(6, 4)),
    fill,
    errno,
    hint,
  );
  assert.equal(stage.fill(6, 2), 2 * PAGE, 'they were missing still');
  stage.expectSleeper();
  await stage.end();
}

/** Tried for two seconds, in which the loop reads the event as a rule. */
async function fillMeetsChange(fill: Fill): Promise<void> {
  const stage = await Stage.open(fill);
  await changing(stage, () => {
    assertRefused(
      refusal(() => stage.fill(3)),
      fill,
      'EAGAIN',
    );
    stage.expectSleeper(2);
  });
  assert.equal(stage.fill(3), PAGE);
  stage.expectSleeper();
  await stage.end();
}

/** The field of the result is not written then: it says nothing. */
async function fillRefused(fill: Fill, errno: string, hint: RegExp | undefined): Promise<void> {
  const stage = await Stage.open(fill);
  refuse(fill, errno);
  assertRefused(
    refusal(() => stage.fill(3)),
    fill,
    errno,
    hint,
  );
  assertRefused(
    refusal(() => stage.fill(1)),
    fill,
    errno,
    hint,
  );
  assertRefused(
    refusal(() => stage.fill(4, 4)),
    fill,
    errno,
    hint,
  );
  stage.expectSleeper();
  // Its fault is open still, and closing ends it in any case.
  stage.close();
}

// What the loop does when its own answer is refused

function loopRow(call: Fill | 'WRITEPROTECT', errno: string, when: string, run: Row['run']): Row {
  return { call, errno, when: `the loop meets it: ${when}`, how: 'injected', run };
}

const LOOP_ANSWERS = ['ZEROPAGE', 'COPY', 'CONTINUE', 'WRITEPROTECT'] as const;
type LoopAnswer = (typeof LOOP_ANSWERS)[number];

/** Memory whose next touch the loop ends by this ioctl. */
function answeredBy(call: LoopAnswer): { uffd: Userfaultfd; toucher: Toucher } {
  const uffd = Userfaultfd.open({ features: ['EVENT_REMOVE', 'POISON'] });
  const backing = call === 'CONTINUE' ? 'memfd' : 'anonymous';
  const region = Region.allocate({ bytes: 16 * PAGE, backing, shared: true });
  if (call === 'WRITEPROTECT') {
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
  } else if (call === 'CONTINUE') {
    region.alias().bytes.fill(1);
    uffd.register(region, 'minor');
  } else {
    const source = Region.allocate({ bytes: 16 * PAGE });
    source.bytes.fill(1);
    uffd.register(region, 'missing', call === 'COPY' ? { source, fallback: 'zeropage' } : {});
  }
  const access = call === 'WRITEPROTECT' ? 'write' : 'read';
  return { uffd, toucher: new Toucher(region.bytes, { offset: PAGE, access }) };
}

/** It may pass: tried again and again, and closing frees who waits. */
function loopWaits(call: LoopAnswer, errno: string): void {
  const { uffd, toucher } = answeredBy(call);
  refuse(call, errno);
  toucher.go();
  untilAsleepInFault(toucher.tid);
  assert.equal(toucher.finishedRound, 0);
  uffd.close();
  toucher.untilDone();
}

/** It cannot pass: everything is unregistered, everybody woken, and it is said. */
async function loopFails(call: LoopAnswer, errno: string): Promise<void> {
  const { uffd, toucher } = answeredBy(call);
  const told = uffd.events().next();
  refuse(call, errno);
  toucher.go();
  toucher.untilDone();
  await assert.rejects(told, { name: 'UffdError', code: 'ERR_UFFD_LOOP_FAILED', errno: -ERRNO[errno]! });
  assert.deepEqual(flagsOfRegisteredMemory(), []);
  uffd.close();
}

/** A source that cannot be read has failed, and the fallback answers. */
async function loopFallsBack(): Promise<void> {
  const { uffd, toucher } = answeredBy('COPY');
  refuse('COPY', 'EFAULT');
  toucher.go();
  const fault = await nextFault(uffd.events());
  assert.equal(fault.action, 'zeropage');
  toucher.untilDone();
  assert.equal(toucher.lastRead, 0);
  uffd.close();
}

function loopRows(): Row[] {
  const rows: Row[] = [];
  for (const call of LOOP_ANSWERS) {
    for (const errno of ['ENOMEM', 'EAGAIN']) {
      rows.push(loopRow(call, errno, 'it tries again', () => loopWaits(call, errno)));
    }
    const hopeless = call === 'COPY' || call === 'CONTINUE' ? ['EINVAL'] : ['EINVAL', 'EFAULT'];
    for (const errno of hopeless) {
      rows.push(loopRow(call, errno, 'it ends, and lets everybody go', async () => loopFails(call, errno)));
    }
  }
  rows.push(
    loopRow('CONTINUE', 'EIO', 'it ends, and lets everybody go', async () => loopFails('CONTINUE', 'EIO')),
  );
  rows.push(loopRow('COPY', 'EFAULT', 'the source failed', loopFallsBack));
  return rows;
}

// Each by itself

/** UFFDIO_API on every way of opening: what was tried is in the error, and no descriptor is left. */
function openRefused(errno: string): void {
  const before = userfaultfdDescriptors().length;
  if (errno !== 'EPERM') refuse('API', errno);
  const features = errno === 'EPERM' ? (['EVENT_FORK'] as const) : [];
  const error = refusal(() => Userfaultfd.open({ features: [...features] }));
  assertRefused(error, 'API', errno, errno === 'EPERM' ? /CAP_SYS_PTRACE/ : undefined);
  assert.equal(error.attempts!.length, 3);
  assert.equal(userfaultfdDescriptors().length, before);
}

/** Nothing is registered, and everybody else may have it. */
function assertPlain(region: Region): void {
  assert.deepEqual(flagsOfRegisteredMemory(), []);
  using another = Userfaultfd.open();
  another.register(region, 'missing');
  assert.equal(region.bytes[5], 0);
}

function registerOfFile(): void {
  const file = path.join(temporaryDirectory(), 'bytes');
  writeFileSync(file, new Uint8Array(4 * PAGE).fill(3));
  const region = Region.allocate({ backing: 'file', path: file });
  using uffd = Userfaultfd.open();
  const error = refusal(() => uffd.register(region, 'missing'));
  assertRefused(error, 'REGISTER', 'EINVAL', /cannot be registered in this mode/);
  assert.equal(uffd.registrations.length, 0);
  assert.deepEqual(flagsOfRegisteredMemory(), []);
  region.bytes[5] = 4;
}

function registerOfReadOnly(): void {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const file = path.join(temporaryDirectory('/dev/shm'), 'bytes');
  writeFileSync(file, new Uint8Array(4 * PAGE).fill(3));
  assert.equal(testing().mapFile(region.bytes, file), undefined);
  using uffd = Userfaultfd.open();
  const error = refusal(() => uffd.register(region, 'missing'));
  assertRefused(error, 'REGISTER', 'EPERM', /may not be written/);
  assert.equal(uffd.registrations.length, 0);
  assert.deepEqual(flagsOfRegisteredMemory(), []);
  assert.equal(region.bytes[5], 3);
}

function registerOfAnothers(): void {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const owner = Userfaultfd.open();
  owner.register(region, 'write-protect');
  owner.writeProtect(region);
  using uffd = Userfaultfd.open();
  assert.throws(() => uffd.register(region, 'missing'), {
    name: 'UffdError',
    code: 'ERR_UFFD_BUSY',
    errno: -ERRNO['EBUSY']!,
    syscall: 'ioctl(UFFDIO_REGISTER)',
    hint: /one owner/,
  });
  assert.equal(owner.armedPages(region), 4, 'it keeps what it has');
  region.bytes[5] = 1;
  owner.close();
  region.discard();
  assertPlain(region);
}

function registerRefused(errno: string): void {
  const region = Region.allocate({ bytes: 4 * PAGE });
  using uffd = Userfaultfd.open();
  refuse('REGISTER', errno);
  assertRefused(
    refusal(() => uffd.register(region, 'missing')),
    'REGISTER',
    errno,
  );
  assert.equal(uffd.registrations.length, 0);
  assert.deepEqual(flagsOfRegisteredMemory(), []);
  region.bytes[5] = 1;
}

/** The kernel unregisters none of it then, for the sake of the half that is somebody else's. */
async function unregisterOfHalf(whose: 'file' | 'another'): Promise<void> {
  const stage = await Stage.open('ZEROPAGE');
  const { region, uffd } = stage;
  const half = region.bytes.subarray(8 * PAGE);
  if (whose === 'file') {
    assert.equal(testing().mapFile(half, process.execPath), undefined);
  } else {
    assert.equal(testing().mapAnew(half), undefined);
    const failure = testing().registerUnarmed(half);
    assert.equal(failure, undefined, JSON.stringify(failure));
  }
  uffd.unregister(region);
  stage.sleeper.untilDone();
  assert.equal(uffd.registrations.length, 0);
  // Nobody would answer a fault there.
  region.bytes.fill(1, 2 * PAGE, 8 * PAGE);
  assert.equal(flagsOfRegisteredMemory().length, whose === 'file' ? 0 : 1);
  uffd.close();
}

/** It is registered still, so it is served still. */
async function unregisterRefused(errno: string): Promise<void> {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const uffd = Userfaultfd.open();
  const registration = uffd.register(region, 'missing');
  refuse('UNREGISTER', errno);
  for (const end of [() => uffd.unregister(region), () => registration.close(), () => region.close()]) {
    assertRefused(refusal(end), 'UNREGISTER', errno);
    assert.deepEqual(uffd.registrations, [registration]);
  }
  assert.equal(region.bytes[5], 0);
  const fault = await nextFault(uffd.events());
  assert.equal(fault.action, 'zeropage');
  // Closing the descriptor needs no ioctl.
  uffd.close();
  region.bytes[PAGE] = 1;
  assert.deepEqual(flagsOfRegisteredMemory(), []);
}

/** Writers are not woken by unregistering; a descriptor that closes frees them. */
function wakeRefused(errno: string): void {
  const region = Region.allocate({ bytes: 16 * PAGE, shared: true });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect', { resolve: 'handler', deadlineMs: NEVER_MS });
  uffd.writeProtect(region);
  const writer = new Toucher(region.bytes, { offset: PAGE });
  writer.go();
  untilAsleepInFault(writer.tid);
  refuse('WAKE', errno);
  assertRefused(
    refusal(() => uffd.wake(region)),
    'WAKE',
    errno,
  );
  uffd.close();
  writer.untilDone();
  assert.equal(region.bytes[PAGE], 1);
}

/** The pages before, and those behind, are disarmed. */
function armingStopsHalfWay(): void {
  const region = Region.allocate({ bytes: 12 * PAGE });
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  assert.equal(testing().mapAnew(region.bytes.subarray(4 * PAGE, 6 * PAGE)), undefined);
  assertRefused(
    refusal(() => uffd.writeProtect(region)),
    'WRITEPROTECT',
    'ENOENT',
    /mapped anew/,
  );
  assert.equal(uffd.armedPages(region), 0);
  uffd.writeProtect(region, pages(region, 0, 4));
  uffd.writeProtect(region, pages(region, 6, 6));
  assert.equal(uffd.armedPages(region), 10);
  assertRefused(
    refusal(() => uffd.unprotect(region)),
    'WRITEPROTECT',
    'ENOENT',
    /mapped anew/,
  );
  assert.equal(uffd.armedPages(region), 0);
  region.bytes.fill(1);
}

/** A thread that met a page armed in between goes on; so does one that waits behind what is gone. */
async function disarmingStopsHalfWay(call: 'writeProtect' | 'unprotect'): Promise<void> {
  const region = Region.allocate({ bytes: 16 * PAGE, shared: true });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect', { resolve: 'handler', deadlineMs: NEVER_MS });
  uffd.writeProtect(region);
  const writers = [1, 9].map((page) => new Toucher(region.bytes, { offset: page * PAGE }));
  const told = uffd.events();
  for (const writer of writers) writer.go();
  const faults = [await nextEvent(told), await nextEvent(told)];
  assert.equal(testing().mapAnew(region.bytes.subarray(4 * PAGE, 6 * PAGE)), undefined);
  assertRefused(
    refusal(() => uffd[call](region)),
    'WRITEPROTECT',
    'ENOENT',
  );
  for (const writer of writers) await eventually(() => writer.finishedRound === 1);
  for (const fault of faults) assert.ok(fault instanceof PageFault && fault.endedBy === 'call');
  uffd.close();
}

/** The event of it comes first: what is left keeps what it has. */
async function armingOfCut(): Promise<void> {
  const region = Region.allocate({ bytes: 12 * PAGE });
  using uffd = Userfaultfd.open({ features: ['EVENT_UNMAP'] });
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  assert.equal(testing().mapAnew(region.bytes.subarray(4 * PAGE, 6 * PAGE)), undefined);
  assert.equal((await nextEvent(uffd.events())).type, 'unmap');
  for (const call of ['writeProtect', 'unprotect'] as const) {
    assertRefused(
      refusal(() => uffd[call](region)),
      'WRITEPROTECT',
      'ENOENT',
      /unmapped/,
    );
    assert.equal(uffd.armedPages(region), 10);
  }
  uffd.unprotect(region, pages(region, 6, 6));
  assert.equal(uffd.armedPages(region), 4);
}

async function armingMeetsChange(): Promise<void> {
  const stage = await Stage.open('ZEROPAGE', 'write-protect');
  const { region, uffd } = stage;
  uffd.zeropage(region, pages(region, 3, 4));
  uffd.writeProtect(region, pages(region, 3, 2));
  await changing(stage, () => {
    assertRefused(
      refusal(() => uffd.writeProtect(region, pages(region, 3, 4))),
      'WRITEPROTECT',
      'EAGAIN',
    );
    assertRefused(
      refusal(() => uffd.unprotect(region, pages(region, 3, 4))),
      'WRITEPROTECT',
      'EAGAIN',
    );
    assert.equal(uffd.armedPages(region, pages(region, 3, 4)), 2, 'as it was');
  });
  uffd.writeProtect(region, pages(region, 3, 4));
  assert.equal(uffd.armedPages(region, pages(region, 3, 4)), 4);
  stage.expectSleeper();
  await stage.end();
}

function writeProtectRefused(errno: string, hint?: RegExp): void {
  const region = Region.allocate({ bytes: 16 * PAGE, shared: true });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect', { resolve: 'handler', deadlineMs: NEVER_MS });
  uffd.writeProtect(region, pages(region, 1));
  const writer = new Toucher(region.bytes, { offset: PAGE });
  writer.go();
  untilAsleepInFault(writer.tid);
  refuse('WRITEPROTECT', errno);
  assertRefused(
    refusal(() => uffd.writeProtect(region, pages(region, 2, 3))),
    'WRITEPROTECT',
    errno,
    hint,
  );
  assertRefused(
    refusal(() => uffd.unprotect(region)),
    'WRITEPROTECT',
    errno,
    hint,
  );
  assert.equal(uffd.armedPages(region), 1);
  uffd.close();
  writer.untilDone();
  assert.equal(region.bytes[PAGE], 1);
}

/** The first page of the source can be read, the second cannot. */
async function copyOfUnreadable(): Promise<void> {
  const stage = await Stage.open('COPY');
  const { region, uffd } = stage;
  const source = Region.allocate({ bytes: 4 * PAGE });
  source.bytes.fill(3);
  assert.equal(testing().protect(source.bytes.subarray(PAGE), 0), undefined);
  const error = refusal(() => uffd.copy(region, 3 * PAGE, source.bytes.subarray(PAGE)));
  assertRefused(error, 'COPY', 'EFAULT', /could not be read/);
  assert.equal(uffd.copy(region, 3 * PAGE, source.bytes), PAGE, 'as far as it came');
  assert.equal(region.bytes[3 * PAGE], 3);
  stage.expectSleeper();
  await stage.end();
}

/** hugetlb has no zero page; the loop copies one. */
function zeropageOfHuge(): void {
  const region = Region.allocate({ bytes: 1, backing: 'hugetlb' });
  using uffd = Userfaultfd.open();
  uffd.register(region, 'missing');
  assertRefused(
    refusal(() => uffd.zeropage(region)),
    'ZEROPAGE',
    'EINVAL',
    /hugetlb/,
  );
  assert.equal(region.bytes[5], 0);
}

async function continueOfNothing(): Promise<void> {
  const stage = await Stage.open('CONTINUE');
  stage.back!.discard(3 * PAGE, PAGE);
  stage.back!.discard(7 * PAGE, PAGE);
  assertRefused(
    refusal(() => stage.fill(3)),
    'CONTINUE',
    'EFAULT',
    /not in the page cache/,
  );
  assert.equal(stage.fill(5, 4), 2 * PAGE, 'as far as it came');
  stage.expectSleeper();
  await stage.end();
}

/** A pinned page, and one that a forked child shares; behind one that is neither. */
async function moveOfBusy(how: 'pinned' | 'forked'): Promise<void> {
  const stage = await Stage.open('MOVE');
  const { region, uffd } = stage;
  const source = Region.allocate({ bytes: 4 * PAGE });
  source.bytes.fill(3);
  const busy = source.bytes.subarray(2 * PAGE);
  let child: ForkedChild | undefined;
  if (how === 'pinned') {
    const pin = testing().pinPages(busy);
    assert.ok(!isFailure(pin), JSON.stringify(pin));
  } else {
    assert.equal(testing().inheritOnFork(busy), undefined);
    child = new ForkedChild(source);
  }
  const error = refusal(() => uffd.move(region, 3 * PAGE, source, pages(source, 2)));
  assertRefused(error, 'MOVE', 'EBUSY', /pinned or shared/);
  if (how === 'pinned') {
    assert.equal(uffd.move(region, 3 * PAGE, source), 2 * PAGE, 'as far as it came');
    assert.equal(region.bytes[3 * PAGE], 3);
  }
  assert.equal(source.bytes[2 * PAGE], 3, 'it has its page still');
  child?.end();
  stage.expectSleeper();
  await stage.end();
}

async function moveOfHole(): Promise<void> {
  const stage = await Stage.open('MOVE');
  const { region, uffd } = stage;
  const source = Region.allocate({ bytes: 4 * PAGE });
  source.bytes[0] = 3;
  const error = refusal(() => uffd.move(region, 3 * PAGE, source, pages(source, 1)));
  assertRefused(error, 'MOVE', 'ENOENT', /allowHoles/);
  assert.equal(uffd.move(region, 3 * PAGE, source), PAGE, 'as far as it came');
  assert.equal(region.bytes[3 * PAGE], 3);
  stage.expectSleeper();
  await stage.end();
}

async function moveOfShared(): Promise<void> {
  const stage = await Stage.open('MOVE');
  const { region, uffd } = stage;
  const source = Region.allocate({ bytes: 4 * PAGE, backing: 'memfd' });
  source.bytes.fill(3);
  const error = refusal(() => uffd.move(region, 3 * PAGE, source));
  assertRefused(error, 'MOVE', 'EINVAL', /private anonymous memory/);
  assert.equal(source.bytes[0], 3);
  stage.expectSleeper();
  await stage.end();
}

/** Page table entries that are no pages. */
async function moveOfMarkers(): Promise<void> {
  const stage = await Stage.open('MOVE');
  const { region, uffd } = stage;
  const source = Region.allocate({ bytes: 4 * PAGE });
  using other = Userfaultfd.open();
  other.register(source, ['missing', 'write-protect']);
  other.writeProtect(source, pages(source, 1));
  other.poison(source, pages(source, 2));
  other.zeropage(source, pages(source, 0));
  for (const page of [1, 2]) {
    const error = refusal(() => uffd.move(region, 3 * PAGE, source, pages(source, page)));
    assertRefused(error, 'MOVE', 'EFAULT', /poisoned, or an armed one/);
  }
  assert.equal(uffd.move(region, 3 * PAGE, source), PAGE, 'as far as it came');
  stage.expectSleeper();
  await stage.end();
}

async function childEnded(): Promise<void> {
  const region = Region.allocate({ bytes: 4 * PAGE });
  inherit(region);
  const uffd = Userfaultfd.open({ features: ['EVENT_FORK'] });
  uffd.register(region, ['missing', 'write-protect']);
  const events = uffd.events();
  const forked = new ForkedChild(region);
  const event = await nextEvent(events);
  assert.ok(event.type === 'fork');
  const { child } = event;
  child.zeropage(region, pages(region, 0));
  assert.equal(forked.end(), 0);
  const bytes = new Uint8Array(PAGE);
  const calls = {
    copy: () => child.copy(region, PAGE, bytes),
    zeropage: () => child.zeropage(region),
    poison: () => child.poison(region),
    writeProtect: () => child.writeProtect(region),
    unprotect: () => child.unprotect(region),
    unregister: () => child.unregister(region),
  };
  for (const [name, call] of Object.entries(calls)) {
    assert.throws(call, { name: 'UffdError', code: 'ERR_UFFD_CLOSED' }, name);
  }
  uffd.close();
}

// PAGEMAP_SCAN

function scanOfMappedAnew(): void {
  const region = Region.allocate({ bytes: 16 * PAGE });
  using tracker = new DirtyTracker(region, { engine: 'wp-async' });
  assert.equal(testing().mapAnew(region.bytes.subarray(4 * PAGE, 6 * PAGE)), undefined);
  assert.deepEqual(pagesOf(tracker.peek()), pageRun(0, 16));
  assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, 16));
  assert.deepEqual(pagesOf(tracker.collect()), [], 'it is tracked again');
  region.bytes[5 * PAGE] = 1;
  assert.deepEqual(pagesOf(tracker.collect()), [5]);
}

/** The kernel may have re-armed pages before it failed. */
function scanFails(errno: string): void {
  const region = Region.allocate({ bytes: 16 * PAGE });
  using tracker = new DirtyTracker(region, { engine: 'wp-async' });
  region.bytes[3 * PAGE] = 1;
  testing().injectScanError(ERRNO[errno]!);
  assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, 16));
  assert.deepEqual(pagesOf(tracker.collect()), [], 'it is armed again');
}

function scanOfOldKernel(): void {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const WP_ASYNC = 1n << 15n;
  testing().withholdFeatures(WP_ASYNC);
  refuse('PAGEMAP_SCAN', 'ENOTTY');
  using tracker = new DirtyTracker(region);
  assert.notEqual(tracker.engine, 'wp-async');
  region.bytes[PAGE] = 1;
  assert.deepEqual(pagesOf(tracker.collect()), [1]);
  tracker.close();
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  assertRefused(
    refusal(() => uffd.armedPages(region)),
    'PAGEMAP_SCAN',
    'ENOTTY',
    /Linux 6\.7/,
  );
}

const row = (
  call: string,
  errno: string,
  how: Row['how'],
  when: string,
  run: Row['run'],
  options?: ScenarioOptions,
): Row => ({ call, errno, how, when, run, ...(options === undefined ? {} : { options }) });

export const TABLE: readonly Row[] = [
  row('API', 'EPERM', 'provoked', 'an ordinary user asks for EVENT_FORK', () => openRefused('EPERM'), {
    asNobody: true,
  }),
  ...['EINVAL', 'EFAULT'].map((errno) =>
    row('API', errno, 'injected', 'the kernel says so', () => openRefused(errno)),
  ),
  row('REGISTER', 'EINVAL', 'provoked', 'the memory is of a file', registerOfFile),
  row('REGISTER', 'EPERM', 'provoked', 'the memory may not be written', registerOfReadOnly),
  row('REGISTER', 'EBUSY', 'provoked', 'another userfaultfd has it', registerOfAnothers),
  row('REGISTER', 'ENOMEM', 'provoked', 'no mapping is left', limit.register, ENOUGH),
  row('REGISTER', 'ENOMEM', 'provoked', 'none is left half way', limit.partOfRegister, ENOUGH),
  row('REGISTER', 'EFAULT', 'injected', 'the kernel says so', () => registerRefused('EFAULT')),
  row('UNREGISTER', 'EINVAL', 'provoked', 'half of it is a file now', async () => unregisterOfHalf('file')),
  row('UNREGISTER', 'EINVAL', 'provoked', "half of it is another userfaultfd's now", async () =>
    unregisterOfHalf('another'),
  ),
  row('UNREGISTER', 'ENOMEM', 'provoked', 'no mapping is left', () => limit.unregister('unregister'), ENOUGH),
  row('UNREGISTER', 'EFAULT', 'injected', 'the kernel says so', async () => unregisterRefused('EFAULT')),
  ...['EINVAL', 'EFAULT'].map((errno) =>
    row('WAKE', errno, 'injected', 'the kernel says so', () => wakeRefused(errno)),
  ),
  row('WRITEPROTECT', 'ENOENT', 'provoked', 'EVENT_UNMAP has told that the middle is gone', armingOfCut),
  row('WRITEPROTECT', 'ENOENT', 'provoked', 'the middle of the range was mapped anew', armingStopsHalfWay),
  ...(['writeProtect', 'unprotect'] as const).map((call) =>
    row('WRITEPROTECT', 'ENOENT', 'provoked', `threads wait on both sides of it: ${call}()`, async () =>
      disarmingStopsHalfWay(call),
    ),
  ),
  row(
    'WRITEPROTECT',
    'EAGAIN',
    'provoked',
    'an event of the changing mapping is not read',
    armingMeetsChange,
  ),
  row('WRITEPROTECT', 'ENOMEM', 'injected', 'the kernel says so', () =>
    writeProtectRefused('ENOMEM', SHORTAGE),
  ),
  ...['EINVAL', 'EFAULT', 'ESRCH'].map((errno) =>
    row('WRITEPROTECT', errno, 'injected', 'the kernel says so', () => writeProtectRefused(errno)),
  ),
  ...FILLS.flatMap(fillRows),
  row('COPY', 'EFAULT', 'provoked', 'the source cannot be read', copyOfUnreadable),
  row('ZEROPAGE', 'EINVAL', 'provoked', 'the memory is of huge pages', async () =>
    withHugePage(zeropageOfHuge),
  ),
  row('CONTINUE', 'EFAULT', 'provoked', 'the page is not in the page cache', continueOfNothing),
  row('CONTINUE', 'EIO', 'injected', 'the memory of the page is broken', async () =>
    fillRefused('CONTINUE', 'EIO', undefined),
  ),
  row('MOVE', 'EBUSY', 'provoked', 'a page of the source is pinned', async () => moveOfBusy('pinned')),
  row('MOVE', 'EBUSY', 'provoked', 'a child shares a page of the source', async () => moveOfBusy('forked')),
  row('MOVE', 'ENOENT', 'provoked', 'the source has a hole', moveOfHole),
  row('MOVE', 'EINVAL', 'provoked', 'the source is shared memory', moveOfShared),
  row('MOVE', 'EFAULT', 'provoked', 'the source has no page but a mark', moveOfMarkers),
  row('COPY', 'ESRCH', 'provoked', 'the child of a ChildUserfaultfd has ended', childEnded),
  ...loopRows(),
  row('PAGEMAP_SCAN', 'EPERM', 'provoked', 'a part was mapped anew', scanOfMappedAnew),
  ...['EFAULT', 'ENOMEM', 'EINVAL'].map((errno) =>
    row('PAGEMAP_SCAN', errno, 'injected', 'the scan is done and its result lost', () => scanFails(errno)),
  ),
  row('PAGEMAP_SCAN', 'ENOTTY', 'injected', 'the kernel is older than Linux 6.7', scanOfOldKernel),
];

export function title({ call, errno, when, how }: Row): string {
  const name = call === 'PAGEMAP_SCAN' ? call : `UFFDIO_${call}`;
  return `${name} ${errno} when ${when}${how === 'injected' ? ' (injected)' : ''}`;
}

/** One row, by its title. */
export async function run(wanted: string): Promise<void> {
  const found = TABLE.find((each) => title(each) === wanted);
  assert.ok(found, wanted);
  await found.run();
  assert.deepEqual(sleepersInFault(), [], 'nobody is asleep');
}
