// A consumer whose event loop stays awake after its answers and reads the next faults itself. Each
// function runs in a process of its own (test 43). Whether a fault was read so is told by a barrier
// behind that reading; a Worker opens it, since the event loop stands there. It stays awake after every
// answer here: on a busy machine faults are seldom quick enough for that.

import assert from 'node:assert/strict';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { binding } from '../../lib/binding.js';
import { type OpenOptions, PageFault, Region, type RegisterOptions, Userfaultfd } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { eventually, ready, Toucher, until, withoutWatchdog } from './loop-support.js';
import type { AsideOrder } from './reading-aside-consumer.js';
import type { OpenAfter, OpenerOrder } from './reading-aside-opener.js';

const PAGE = 4096;
const FAULTS = 256;
/** Far beyond what a test takes, so that no deadline helps out. */
const NEVER_MS = 600_000;
const BARRIER = 'aside-after-read';

interface Flood {
  region: Region;
  uffd: Userfaultfd;
  faults: AsyncIterator<PageFault, undefined>;
  /** Has the other thread touch each page once more, after what was there went. */
  begin: () => void;
  /** The rounds that were touched to their end. */
  finished: () => number;
  /** Of the other thread: see CONTROL. */
  control: Int32Array;
}

/** Another thread that reads page after page, the first FAULTS of `pages`, and waits for each. */
function flood(options: RegisterOptions = {}, opening: OpenOptions = {}, pages = FAULTS): Flood {
  testing().lingerAlways(true);
  const region = Region.allocate({ bytes: pages * PAGE, shared: true, hugePages: 'never' });
  const uffd = Userfaultfd.open(opening);
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: NEVER_MS, ...options });
  const thread = new Toucher(region.bytes, { stride: PAGE, count: FAULTS, access: 'read' });
  let round = 0;
  return {
    region,
    uffd,
    faults: onlyFaults(uffd),
    begin: () => {
      if (round > 0) region.discard();
      thread.go(++round);
    },
    finished: () => thread.finishedRound,
    control: thread.control,
  };
}

async function* onlyFaults(uffd: Userfaultfd): AsyncGenerator<PageFault, undefined> {
  for await (const event of uffd.events()) if (event instanceof PageFault) yield event;
  return undefined;
}

async function next(faults: AsyncIterator<PageFault, undefined>): Promise<PageFault> {
  const { value } = await faults.next();
  assert.ok(value instanceof PageFault);
  return value;
}

function contentOf(fault: PageFault): Uint8Array {
  return new Uint8Array(PAGE).fill(1 + ((fault.pageOffset / PAGE) % 250));
}

/** Closes the barrier and has it opened as often, each time after `again` and somebody waited there. */
function openWhenReached(times = 1, after?: OpenAfter): { seen: () => number; again: () => void } {
  const seen = new Int32Array(new SharedArrayBuffer(8));
  testing().closeBarrier(BARRIER);
  const workerData: OpenerOrder = { barrier: BARRIER, seen, times, ...(after && { after }) };
  new Worker(path.join(__dirname, 'reading-aside-opener.js'), { workerData }).unref();
  return {
    seen: () => Atomics.load(seen, 0),
    again: () => {
      testing().closeBarrier(BARRIER);
      Atomics.add(seen, 1, 1);
      Atomics.notify(seen, 1);
    },
  };
}

export async function handsOver(): Promise<void> {
  const { region, uffd, faults, begin, finished } = flood();
  const opener = openWhenReached();
  let rounds = 0;
  // On a busy machine the next fault may be late every time.
  while (opener.seen() === 0) {
    begin();
    rounds++;
    for (let i = 0; i < FAULTS; i++) {
      const fault = await next(faults);
      assert.equal(fault.pageOffset, i * PAGE);
      assert.equal(await fault.resolve(contentOf(fault)), true);
      assert.deepEqual([fault.endedBy, fault.action], ['handler', 'copy']);
    }
    await eventually(() => finished() === rounds);
    for (let i = 0; i < FAULTS; i++) assert.equal(region.bytes[i * PAGE + 9], 1 + (i % 250));
  }
  assert.equal(uffd.missedEvents, 0);
}

/** The loop sleeps, and was told of no deadline before. */
export async function keepsDeadlines(): Promise<void> {
  const TIMES = 5;
  const { faults, begin, finished } = flood({ deadlineMs: 300 });
  const opener = openWhenReached(TIMES, { is: 'loop asleep' });
  let unanswered = 0;
  for (let round = 1; unanswered < TIMES; round++) {
    begin();
    for (let i = 0; i < FAULTS; i++) {
      const fault = await next(faults);
      if (opener.seen() === unanswered) {
        // Where processors are taken, one may have passed meanwhile.
        await fault.resolve(contentOf(fault)).catch(() => undefined);
        continue;
      }
      unanswered++;
      await eventually(() => fault.resolved);
      assert.deepEqual([fault.endedBy, fault.action], ['deadline', 'zeropage']);
      if (unanswered < TIMES) opener.again();
    }
    await eventually(() => finished() === round);
  }
}

/** Another thread's fault of the same page was ended by its deadline when this one was read and not handed over. */
export async function endsWithItsPage(): Promise<void> {
  const { region, faults, begin, finished, control } = flood({ deadlineMs: 300 });
  const opener = openWhenReached(1, { is: 'page touched', bytes: region.bytes, stride: PAGE, control });
  for (let round = 1; opener.seen() === 0; round++) {
    begin();
    for (let i = 0; i < FAULTS; i++) {
      const fault = await next(faults);
      assert.equal(fault.pageOffset, i * PAGE);
      // Where processors are taken, its deadline may have passed.
      await fault.resolve(contentOf(fault)).catch(() => undefined);
    }
    await eventually(() => finished() === round);
  }
}

/** A consumer that faults itself while the loop stands aside, which it does when a fault was read so. */
export async function endsItsOwnFaults(): Promise<void> {
  const TIMES = 5;
  /** A thread that faults itself is not let read for a while. */
  const RESTS_MS = 150;
  const { region, faults, begin, finished } = flood({}, {}, FAULTS + TIMES);
  const opener = openWhenReached(TIMES);
  let own = 0;
  for (let round = 1; own < TIMES; round++) {
    begin();
    for (let i = 0; i < FAULTS;) {
      const fault = await next(faults);
      if (fault.endedBy === 'own-thread') continue;
      i++;
      await fault.resolve(contentOf(fault));
      if (opener.seen() === own) continue;
      assert.equal(region.bytes[(FAULTS + own) * PAGE], 0);
      if (++own < TIMES) opener.again();
      await new Promise((resolve) => setTimeout(resolve, RESTS_MS));
    }
    await eventually(() => finished() === round);
  }
}

/**
 * Released by another thread when a fault was read and not yet handed over: it is poisoned (SIGBUS), or the
 * handler is quicker. Never is it a page of zeros.
 */
export function isReleasedInTheMiddle(): void {
  withoutWatchdog();
  testing().lingerAlways(true);
  const region = Region.allocate({ bytes: FAULTS * PAGE, shared: true, hugePages: 'never' });
  const registered = new Int32Array(new SharedArrayBuffer(4));
  const seen = new Int32Array(new SharedArrayBuffer(8));
  testing().closeBarrier(BARRIER);
  const workerData: AsideOrder = { handle: region.handle, ready: registered };
  new Worker(path.join(__dirname, 'reading-aside-consumer.js'), { workerData }).unref();
  Atomics.wait(registered, 0, 0);
  const order: OpenerOrder = {
    barrier: BARRIER,
    seen,
    times: 1,
    after: { is: 'thread waiting', tid: process.pid },
  };
  new Worker(path.join(__dirname, 'reading-aside-opener.js'), { workerData: order }).unref();
  const thread = new Toucher(region.bytes, { stride: PAGE, count: FAULTS, access: 'read' });
  for (let round = 1; Atomics.load(seen, 0) === 0; round++) {
    if (round > 1) region.discard();
    thread.go(round);
    until(() => thread.finishedRound === round || Atomics.load(seen, 0) !== 0);
  }
  const inHand = thread.touched % FAULTS;
  const round = thread.finishedRound + 1;
  ready();
  Atomics.store(seen, 1, 1);
  Atomics.notify(seen, 1);
  binding().releaseAll();
  thread.untilDone(round);
  assert.equal(region.bytes[inHand * PAGE], 6);
}

/** What is not for handlers alone is read by the loop: nobody opens the barrier here. */
export async function leavesTheRestToTheLoop(what: string): Promise<void> {
  testing().closeBarrier(BARRIER);
  const opening: OpenOptions = what === 'events' ? { features: ['EVENT_REMOVE'] } : {};
  const { uffd, faults, begin, finished } = flood({}, opening);
  const other = Region.allocate({ bytes: 1 });
  if (what === 'native faults') uffd.register(other, 'missing');
  const ROUNDS = 8;
  for (let round = 1; round <= ROUNDS; round++) {
    begin();
    for (let i = 0; i < FAULTS; i++) await (await next(faults)).resolve();
    await eventually(() => finished() === round);
  }
}

/** Each write after a page was armed is told, once. */
export async function tellsEveryWrite(): Promise<void> {
  testing().lingerAlways(true);
  const region = Region.allocate({ bytes: FAULTS * PAGE, shared: true, hugePages: 'never' });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect', { resolve: 'handler', deadlineMs: NEVER_MS });
  const thread = new Toucher(region.bytes, { stride: PAGE, count: FAULTS, value: 3 });
  const faults = onlyFaults(uffd);
  const opener = openWhenReached();
  for (let round = 1; opener.seen() === 0 || round <= 20; round++) {
    region.bytes.fill(0);
    uffd.writeProtect(region);
    thread.go(round);
    for (let i = 0; i < FAULTS; i++) {
      const fault = await next(faults);
      assert.equal(fault.pageOffset, i * PAGE);
      assert.equal(region.bytes[fault.pageOffset], 0);
      await fault.resolve();
      assert.equal(fault.endedBy, 'handler');
    }
    await eventually(() => thread.finishedRound === round);
    for (let i = 0; i < FAULTS; i++) assert.equal(region.bytes[i * PAGE], 3);
  }
}
