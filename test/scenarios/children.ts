// The userfaultfds of forked children (test 35). Their memory is kept from children (MADV_DONTFORK); these
// scenarios lift that, and fork with NativeTesting.forkChild or start programs.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import { Worker } from 'node:worker_threads';
import {
  ChildUserfaultfd,
  Region,
  Userfaultfd,
  type Feature,
  type RegisterMode,
  type RegisterOptions,
  type UffdEvent,
} from '../../lib/index.js';
import { testing, untilSomebodyWaitsAt } from '../support/testing.js';
import { CHILD_BYTE, ForkedChild, inherit } from './conformance-child.js';
import { firstBytes, nextEvent, numbers, pageOf } from './conformance-support.js';
import {
  collectUntil,
  eventually,
  pages,
  ready,
  userfaultfdDescriptors,
  withoutWatchdog,
} from './loop-support.js';

const PAGES = 4;
const ALL = numbers(PAGES, () => 1);
const NONE = numbers(PAGES, () => 0);
const WRITTEN = numbers(PAGES, () => CHILD_BYTE);
/** ForkedChildren::kMost. */
const MOST = 64;

class Parent {
  readonly region = Region.allocate({ bytes: PAGES * 4096 });
  readonly uffd: Userfaultfd;
  readonly events: AsyncIterableIterator<UffdEvent>;

  constructor(
    modes: RegisterMode | RegisterMode[] = 'write-protect',
    options: RegisterOptions = {},
    features: Feature[] = [],
  ) {
    inherit(this.region);
    this.uffd = Userfaultfd.open({ features: ['EVENT_FORK', 'POISON', 'THREAD_ID', ...features] });
    this.uffd.register(this.region, modes, options);
    this.events = this.uffd.events();
  }

  /** The userfaultfd of the child that was forked last. */
  async child(): Promise<ChildUserfaultfd> {
    for (;;) {
      const event = await nextEvent(this.events);
      if (event.type === 'fork') return event.child;
    }
  }

  async fork(): Promise<{ forked: ForkedChild; child: ChildUserfaultfd }> {
    const forked = new ForkedChild(this.region);
    return { forked, child: await this.child() };
  }
}

async function untilClosed(child: ChildUserfaultfd): Promise<void> {
  await eventually(() => child.closed);
  assert.throws(() => child.wake(Region.allocate({ bytes: 1 })), { code: 'ERR_UFFD_CLOSED' });
}

function startProgram(): Promise<unknown> {
  return once(spawn(process.execPath, ['--version'], { stdio: 'ignore' }), 'close');
}

/** A consumer that takes every object and closes none (D3). */
export async function taken(): Promise<void> {
  const programs = 100;
  const { uffd, events } = new Parent();
  const before = userfaultfdDescriptors().length;
  const children: ChildUserfaultfd[] = [];
  const reading = (async () => {
    while (children.length < programs) {
      const event = await nextEvent(events);
      if (event.type === 'fork') children.push(event.child);
      assert.ok(userfaultfdDescriptors().length <= before + MOST);
    }
  })();
  for (let i = 0; i < programs; i += 4) {
    const ended = await Promise.all([startProgram(), startProgram(), startProgram(), startProgram()]);
    for (const each of ended) assert.deepEqual(each, [0, null]);
  }
  await reading;
  for (const child of children) await untilClosed(child);
  assert.equal(userfaultfdDescriptors().length, before);
  uffd.close();
}

/** More of them than there are places, all alive, all blocked in nothing. */
export async function bounded(): Promise<void> {
  const parent = new Parent();
  parent.uffd.writeProtect(parent.region);
  const before = userfaultfdDescriptors().length;
  const forked = numbers(MOST + 6, () => 0).map(() => new ForkedChild(parent.region));
  const children: ChildUserfaultfd[] = [];
  while (children.length < forked.length) children.push(await parent.child());
  assert.equal(children.filter((child) => !child.closed).length, MOST);
  assert.equal(userfaultfdDescriptors().length, before + MOST);
  for (const [i, each] of forked.entries()) {
    assert.deepEqual(each.armed(), i < MOST ? ALL : NONE);
    assert.deepEqual(each.writes(), WRITTEN);
    assert.equal(each.end(), 0);
  }
  for (const child of children) await untilClosed(child);
  assert.equal(userfaultfdDescriptors().length, before);
  // Their places are free again.
  const { child, forked: last } = await parent.fork();
  assert.equal(child.closed, false);
  last.end();
  await untilClosed(child);
}

/** E: such a descriptor gives no end-of-file, so the end of its child is found by asking. */
export async function ends(how: 'exit' | 'exec' | 'kill'): Promise<void> {
  const parent = new Parent();
  const before = userfaultfdDescriptors().length;
  const { forked, child } = await parent.fork();
  const [descriptor] = userfaultfdDescriptors().slice(-1);
  const flags = Number.parseInt(
    /^flags:\s+0(\d+)/m.exec(fs.readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))![1]!,
    8,
  );
  assert.equal(flags & fs.constants.O_NONBLOCK, fs.constants.O_NONBLOCK);
  assert.equal(flags & 0o2000000, 0o2000000, 'O_CLOEXEC');
  child.writeProtect(parent.region);
  if (how === 'exit') forked.end();
  if (how === 'exec') forked.exec();
  if (how !== 'exit') process.kill(forked.pid, how === 'kill' ? 'SIGKILL' : 0);
  await untilClosed(child);
  assert.equal(userfaultfdDescriptors().length, before);
  if (how !== 'exit') process.kill(forked.pid, 'SIGKILL');
}

/** A method that meets the end itself says so, before anybody looked. */
export async function callMeetsEnd(): Promise<void> {
  const parent = new Parent();
  withoutWatchdog();
  const { forked, child } = await parent.fork();
  testing().closeBarrier('loop-before-poll');
  parent.uffd.unref();
  forked.end();
  assert.equal(child.closed, false);
  assert.throws(() => child.writeProtect(parent.region), { code: 'ERR_UFFD_CLOSED' });
  assert.equal(child.closed, true);
}

/** Its event waits to be read when the iterator ends. */
export async function unread(): Promise<void> {
  const parent = new Parent();
  parent.uffd.writeProtect(parent.region);
  const before = userfaultfdDescriptors().length;
  const [first, second, third] = [0, 0, 0].map(() => new ForkedChild(parent.region));
  assert.deepEqual(third!.armed(), ALL);
  const mine = await parent.child();
  assert.equal(userfaultfdDescriptors().length, before + 3);
  await parent.events.return!();
  // The one that was taken stays, those that were not (decoded or not) are closed.
  await eventually(() => userfaultfdDescriptors().length === before + 1);
  assert.deepEqual([first!.armed(), second!.armed(), third!.armed()], [ALL, NONE, NONE]);
  for (const each of [first, second, third]) assert.deepEqual(each!.writes(), WRITTEN);
  let told = 0;
  for await (const event of parent.uffd) {
    assert.ok(event.type === 'fork' && event.child.closed);
    if (++told === 2) break;
  }
  mine.close();
  await eventually(() => userfaultfdDescriptors().length === before);
  for (const each of [first, second, third]) assert.equal(each!.end(), 0);
}

/** The child sleeps in a fault, its event read and not yet decided on, while the consumer leaves. */
export async function consumerLeaves(): Promise<void> {
  withoutWatchdog();
  const parent = new Parent();
  parent.uffd.writeProtect(parent.region);
  testing().closeBarrier('server-before-fork');
  const forked = new ForkedChild(parent.region);
  forked.order('w');
  forked.untilAsleepInFault();
  await parent.events.return!();
  testing().openBarrier('server-before-fork');
  assert.deepEqual(forked.tells(), WRITTEN);
  assert.equal(forked.end(), 0);
}

/** Nobody holds the object any more. */
export async function collected(): Promise<void> {
  const parent = new Parent();
  parent.uffd.writeProtect(parent.region);
  const before = userfaultfdDescriptors().length;
  const forked: ForkedChild[] = [];
  for (let i = 0; i < 3; i++) forked.push((await parent.fork()).forked);
  assert.equal(userfaultfdDescriptors().length, before + 3);
  await collectUntil(() => userfaultfdDescriptors().length === before);
  for (const each of forked) {
    assert.deepEqual(each.armed(), NONE);
    assert.deepEqual(each.writes(), WRITTEN);
    assert.equal(each.end(), 0);
  }
  assert.equal(parent.uffd.armedPages(parent.region), PAGES);
}

/** A child asleep in a fault while the loop is held: closing frees it (A2: the loop polls its descriptor). */
export async function closedWhileAsleep(who: 'child' | 'parent' | 'watchdog'): Promise<void> {
  const parent = new Parent();
  const { forked, child } = await parent.fork();
  child.writeProtect(parent.region);
  if (who !== 'watchdog') withoutWatchdog();
  testing().closeBarrier('loop-before-read');
  // The first fault brings the loop to the barrier, where nobody ends it.
  forked.order('w');
  untilSomebodyWaitsAt('loop-before-read');
  forked.untilAsleepInFault();
  if (who === 'child') child.close();
  if (who === 'parent') parent.uffd.close();
  if (who === 'watchdog') await assert.rejects(parent.events.next(), { code: 'ERR_UFFD_LOOP_FAILED' });
  assert.deepEqual(forked.tells(), WRITTEN);
  assert.deepEqual(forked.armed(), NONE);
  assert.equal(child.closed, true);
  assert.equal(forked.end(), 0);
  testing().openBarrier('loop-before-read');
}

export async function processEnds(): Promise<void> {
  const parent = new Parent();
  const { forked, child } = await parent.fork();
  child.writeProtect(parent.region);
  forked.exec();
  // What the parent of this process waits for is that its pipes are closed.
  process.kill(forked.pid, 'SIGKILL');
  ready();
  process.exit(0);
}

/** What the parent can do to its memory. */
export async function calls(): Promise<void> {
  const parent = new Parent(['missing', 'write-protect']);
  const { region } = parent;
  const { pageSize } = region;
  const { forked, child } = await parent.fork();
  const one = (page: number): { offset: number; length: number } => pages(region, page);
  assert.equal(child.copy(region, 0, pageOf(region, 7), { writeProtect: true }), pageSize);
  assert.equal(child.zeropage(region, one(1)), pageSize);
  assert.throws(() => child.copy(region, pageSize, pageOf(region, 9)), {
    code: 'EEXIST',
    syscall: 'ioctl(UFFDIO_COPY)',
  });
  // Half way: the second page is there.
  assert.throws(() => child.zeropage(region, { offset: 0, length: pageSize }), { code: 'EEXIST' });
  assert.equal(child.copy(region, 2 * pageSize, new Uint8Array(2 * pageSize).fill(8)), 2 * pageSize);
  assert.deepEqual(forked.firstBytes(), [7, 0, 8, 8]);
  assert.deepEqual(forked.armed(), [1, 0, 0, 0]);
  child.unprotect(region, one(0), { wake: false });
  child.wake(region);
  child.writeProtect(region, one(3));
  assert.deepEqual(forked.armed(), [0, 0, 0, 1]);
  child.unregister(region, one(3));
  assert.deepEqual(forked.armed(), NONE);
  assert.throws(() => child.writeProtect(region, one(3)), {
    code: 'ENOENT',
    syscall: 'ioctl(UFFDIO_WRITEPROTECT)',
  });
  assert.deepEqual(forked.writes(), WRITTEN);
  assert.equal(child.closed, false);
  assert.equal(forked.end(), 0);
  assert.deepEqual(firstBytes(region), NONE, 'the parent has its own pages');
}

export async function badInput(): Promise<void> {
  const parent = new Parent();
  const { region } = parent;
  const { forked, child } = await parent.fork();
  const { pageSize } = region;
  assert.throws(() => Reflect.construct(ChildUserfaultfd, []), { code: 'ERR_ILLEGAL_CONSTRUCTOR' });
  const noRegion: unknown = {};
  assert.throws(() => child.wake(noRegion as Region), { code: 'ERR_INVALID_ARG_TYPE' });
  assert.throws(() => child.wake(region, { offset: 1, length: pageSize }), { code: 'ERR_OUT_OF_RANGE' });
  assert.throws(() => child.wake(region, { offset: 0, length: 5 * pageSize }), { code: 'ERR_OUT_OF_RANGE' });
  assert.throws(() => child.copy(region, 0, new Uint8Array(5)), { code: 'ERR_OUT_OF_RANGE' });
  assert.throws(() => child.copy(region, 0, new Uint8Array(0)), { code: 'ERR_INVALID_ARG_VALUE' });
  assert.throws(() => child.unprotect(region, {}, { wakes: true } as object), {
    code: 'ERR_INVALID_ARG_VALUE',
  });
  // Not registered, there or here.
  const other = Region.allocate({ bytes: pageSize });
  assert.throws(() => child.writeProtect(other), { code: 'ENOENT' });
  using busy = Userfaultfd.open();
  busy.register(other, 'missing');
  assert.throws(() => child.copy(region, 0, other.bytes), { code: 'ERR_UFFD_SOURCE_REGISTERED' });
  assert.equal(child.closed, false);
  child.close();
  child.close();
  assert.throws(() => child.copy(region, 0, pageOf(region, 1)), { code: 'ERR_UFFD_CLOSED' });
  assert.equal(forked.end(), 0);
}

/** Faults of a child are ended as the parent's are, and no handler is asked. */
export async function handlerIsNotAsked(): Promise<void> {
  const parent = new Parent(['missing', 'write-protect'], { resolve: 'handler', deadlineMs: 600_000 });
  const { forked, child } = await parent.fork();
  child.writeProtect(parent.region);
  assert.deepEqual(forked.firstBytes(), NONE);
  assert.deepEqual(forked.armed(), ALL, 'what is filled stays armed');
  assert.deepEqual(forked.writes(), WRITTEN);
  assert.equal(forked.end(), 0);
  await untilClosed(child);
}

/** Bytes of a source, and zeros for what was given back, by the parent before the fork or by the child. */
export async function source(): Promise<void> {
  const bytes = Region.allocate({ bytes: PAGES * 4096 });
  bytes.bytes.set(randomBytes(bytes.byteLength));
  for (let page = 0; page < PAGES; page++) bytes.bytes[page * 4096] = page + 1;
  const parent = new Parent('missing', { source: bytes }, ['EVENT_REMOVE']);
  const { region } = parent;
  region.discard(region.pageSize, region.pageSize);
  const { forked, child } = await parent.fork();
  region.discard(2 * region.pageSize, region.pageSize);
  assert.deepEqual(forked.firstBytes(), [1, 0, 3, 4]);
  assert.deepEqual(forked.givesBack(), NONE);
  assert.deepEqual(firstBytes(region), [1, 0, 0, 4]);
  assert.equal(child.closed, false);
  assert.equal(forked.end(), 0);
}

/** The parent ends its registration, or begins another, and the child's pages are still of the first. */
export async function sourceIsLost(): Promise<void> {
  const bytes = Region.allocate({ bytes: PAGES * 4096 });
  bytes.bytes.fill(7);
  for (const again of [false, true]) {
    const parent = new Parent('missing', { source: bytes }, ['EVENT_REMOVE']);
    const { forked, child } = await parent.fork();
    parent.uffd.unregister(parent.region);
    const other = Region.allocate({ bytes: PAGES * 4096 });
    other.bytes.fill(9);
    if (again) parent.uffd.register(parent.region, 'missing', { source: other });
    const { SIGBUS } = os.constants.signals;
    // Its wait status; with 128 in it where it left a core.
    assert.throws(() => forked.firstBytes(), {
      message: new RegExp(`^the child ended: (${SIGBUS}|${SIGBUS + 128})$`),
    });
    await untilClosed(child);
    parent.uffd.close();
  }
}

/** While another child holds a copy of its descriptor, closing alone would free nobody. */
export async function manyRegistrations(): Promise<void> {
  const all = Array.from({ length: 200 }, () => Region.allocate({ bytes: PAGES * 4096 }));
  all.sort((a, b) => Number(testing().addressOf(a.bytes) - testing().addressOf(b.bytes)));
  // Not beside each other: each is a range of its own.
  const others = all.filter((_, i) => i % 2 === 1);
  const parent = new Parent('missing');
  for (const region of others) {
    inherit(region);
    parent.uffd.register(region, 'missing');
  }
  const forked = new ForkedChild(others.at(-1)!);
  const child = await parent.child();
  const { forked: second } = await parent.fork();
  child.close();
  assert.deepEqual(forked.writes(), WRITTEN);
  assert.equal(forked.end(), 0);
  assert.equal(second.end(), 0);
  parent.uffd.close();
}

/** Its own events are read: what it gives back, and the fork of a child of its own. */
export async function itsEvents(): Promise<void> {
  const parent = new Parent('write-protect', {}, ['EVENT_REMOVE', 'EVENT_UNMAP', 'EVENT_REMAP']);
  parent.uffd.writeProtect(parent.region);
  const before = userfaultfdDescriptors().length;
  const { forked, child } = await parent.fork();
  assert.deepEqual(forked.forks(), NONE);
  assert.deepEqual(forked.armed(), ALL);
  assert.deepEqual(forked.givesBack(), NONE);
  assert.deepEqual(forked.writes(), WRITTEN);
  assert.deepEqual(forked.forks(), WRITTEN);
  assert.equal(userfaultfdDescriptors().length, before + 1);
  child.close();
  assert.equal(forked.end(), 0);
}

/** What the loop cannot answer ends the registration of the child, not the child. */
export async function unknownMemory(): Promise<void> {
  const parent = new Parent();
  const { forked, child } = await parent.fork();
  child.writeProtect(parent.region);
  parent.uffd.unregister(parent.region);
  assert.deepEqual(forked.armed(), ALL);
  assert.deepEqual(forked.writes(), WRITTEN);
  await untilClosed(child);
  assert.equal(forked.end(), 0);
}

/** E: EMFILE keeps a fork waiting. The object of another child gives way. */
export async function withoutDescriptors(): Promise<void> {
  const parent = new Parent();
  const first = await parent.fork();
  const second = await parent.fork();
  const files: number[] = [];
  try {
    for (;;) files.push(fs.openSync('/dev/null', 'r'));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EMFILE');
  }
  // What forkChild needs for its pipes, and nothing for the event.
  for (let i = 0; i < 4; i++) fs.closeSync(files.pop()!);
  const forked = new ForkedChild(parent.region);
  const child = await parent.child();
  assert.equal(child.closed, true, 'it took the last descriptor, which the next fork needs');
  for (const file of files) fs.closeSync(file);
  for (const each of [first.forked, second.forked, forked]) {
    assert.deepEqual(each.writes(), WRITTEN);
    assert.equal(each.end(), 0);
  }
  await untilClosed(first.child);
  await untilClosed(second.child);
}

/** The same where another thread took even the spare one. */
export async function oldestGivesWay(): Promise<void> {
  withoutWatchdog();
  const parent = new Parent();
  const first = await parent.fork();
  const second = await parent.fork();
  const files: number[] = [];
  const takeAll = (): void => {
    try {
      for (;;) files.push(fs.openSync('/dev/null', 'r'));
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EMFILE');
    }
  };
  takeAll();
  for (let i = 0; i < 4; i++) fs.closeSync(files.pop()!);
  testing().closeBarrier('server-before-fork');
  const third = new ForkedChild(parent.region);
  untilSomebodyWaitsAt('server-before-fork');
  // The third child's descriptor is closed when this is opened: its number and those after are taken here.
  testing().openBarrier('server-before-fork');
  const child = await parent.child();
  assert.equal(child.closed, true);
  takeAll();
  assert.deepEqual([first.child.closed, second.child.closed], [false, false]);
  for (const file of files.splice(0, 4)) fs.closeSync(file);
  const fourth = new ForkedChild(parent.region);
  assert.equal((await parent.child()).closed, true);
  for (const file of files) fs.closeSync(file);
  for (const each of [first.forked, second.forked, third, fourth]) {
    assert.deepEqual(each.writes(), WRITTEN);
    assert.equal(each.end(), 0);
  }
}

/** D7: threads that fork hold the locks of malloc until the loop has read their events. */
export async function forksMeetEvents(): Promise<void> {
  const rounds = 200;
  const source = Region.allocate({ bytes: 256 * 4096 });
  const region = Region.allocate({ bytes: 256 * 4096 });
  inherit(region);
  const uffd = Userfaultfd.open({ features: ['EVENT_FORK', 'EVENT_REMOVE', 'POISON'] });
  uffd.register(region, 'missing', { source });
  const forkers = [0, 1].map(
    () =>
      new Worker(
        `process.env.UFFD_TEST_ADDON = '1';
         const { workerData, parentPort } = require('node:worker_threads');
         const { testing } = require(workerData.support);
         const bytes = new Uint8Array(4096);
         const { closeSync } = require('node:fs');
         for (let i = 0; i < workerData.rounds; i++) {
           const { pid, orders, report } = testing().forkChild(bytes, 4096, 1, '');
           closeSync(orders);
           closeSync(report);
           process.kill(pid, 'SIGKILL');
           testing().reapChild(pid);
         }
         parentPort.postMessage('done');`,
        { eval: true, workerData: { rounds, support: require.resolve('../support/testing.js') } },
      ),
  );
  const state = { running: forkers.length };
  for (const forker of forkers) forker.on('message', () => state.running--);
  let turns = 0;
  while (state.running > 0) {
    // Other pages each time: the loop has more to remember each time.
    for (let page = turns % 2; page < 256; page += 2) region.discard(page * 4096, 4096);
    if (++turns % 8 === 0) {
      uffd.unregister(region);
      uffd.register(region, 'missing', { source });
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(turns > 0);
  uffd.close();
}
