// The events of a userfaultfd as an async iterator. Each function runs in a process of its own (test 31).

import assert from 'node:assert/strict';
import { randomFill } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import path from 'node:path';
import { Region, Userfaultfd, type PageFault, type UffdEvent } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { Bell, pages, ready, sharedRegion, until, untilSomebodySleeps } from './loop-support.js';

const PAGES = 16;

interface Armed {
  uffd: Userfaultfd;
  region: Region;
  /** Writes to these pages, one after the other; each write is a fault. */
  write: (...pageNumbers: number[]) => void;
}

function armed(): Armed {
  const { pageSize } = Region.allocate({ bytes: 1 });
  const region = Region.allocate({ bytes: PAGES * pageSize });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  return {
    uffd,
    region,
    write(...pageNumbers) {
      for (const page of pageNumbers) {
        uffd.writeProtect(region, pages(region, page));
        region.bytes[page * pageSize] = 1;
      }
    },
  };
}

function pageOf(event: UffdEvent | undefined): number {
  assert.equal(event?.type, 'pagefault');
  return event.offset / event.region.pageSize;
}

/** The page of the event that this next() gives. */
async function pageOfNext(next: Promise<IteratorResult<UffdEvent>>): Promise<number> {
  return pageOf((await (next as Promise<IteratorResult<UffdEvent, undefined>>)).value);
}

async function take(events: AsyncIterable<UffdEvent>, count: number): Promise<number[]> {
  const taken: number[] = [];
  for await (const event of events) {
    taken.push(pageOf(event));
    if (taken.length === count) break;
  }
  return taken;
}

const DONE = { done: true, value: undefined };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export async function inOrder(): Promise<void> {
  const { uffd, write } = armed();
  write(3, 1, 2, 3);
  assert.deepEqual(await take(uffd, 4), [3, 1, 2, 3]);
}

/** There is always one more, and all the same timers run, and a signal comes through. */
export async function endlessEvents(): Promise<void> {
  const { uffd, write } = armed();
  // The last one may not be in the queue yet when it is looked for; these are.
  for (let i = 0; i < 4 * PAGES; i++) write(i % PAGES);
  const controller = new AbortController();
  let ticks = 0;
  const timer = setInterval(() => {
    if (++ticks === 5) controller.abort();
  }, 1);
  const taking = async (): Promise<void> => {
    for await (const event of uffd.events({ signal: controller.signal })) write((pageOf(event) + 1) % PAGES);
  };
  await assert.rejects(taking(), { name: 'AbortError' });
  clearInterval(timer);
}

export async function whileWaiting(): Promise<void> {
  const { uffd, write } = armed();
  const taking = take(uffd.events(), 6);
  for (let page = 0; page < 6; page++) {
    await turn();
    write(page);
  }
  assert.deepEqual(await taking, [0, 1, 2, 3, 4, 5]);
}

export async function waitsAgainAndAgain(): Promise<void> {
  const { uffd, write } = armed();
  const events = uffd.events();
  for (let round = 0; round < 50; round++) {
    const next = events.next();
    // Looked at while there is nothing, it must look again when there is.
    uffd.ref();
    uffd.ref();
    await turn();
    write(round % PAGES);
    assert.equal(await pageOfNext(next), round % PAGES);
  }
}

export async function fromBefore(): Promise<void> {
  const { uffd, write } = armed();
  write(4, 5);
  await turn();
  write(6);
  assert.deepEqual(await take(uffd, 3), [4, 5, 6]);
}

export async function secondConsumer(): Promise<void> {
  const { uffd, write } = armed();
  const first = uffd.events();
  assert.throws(() => uffd.events(), { name: 'UffdError', code: 'ERR_UFFD_BUSY' });
  assert.throws(() => uffd[Symbol.asyncIterator](), { code: 'ERR_UFFD_BUSY' });
  write(7);
  assert.equal(await pageOfNext(first.next()), 7);
  await first.return!();
  await uffd.events().return!();
}

export async function breakReleases(): Promise<void> {
  const { uffd, write } = armed();
  write(1);
  assert.deepEqual(await take(uffd, 1), [1]);
  write(2);
  assert.deepEqual(await take(uffd, 1), [2]);
}

export async function breakLosesNothing(): Promise<void> {
  const { uffd, write } = armed();
  const bell = new Bell(uffd);
  write(1, 2, 3, 4, 5);
  assert.deepEqual(await take(uffd, 2), [1, 2]);
  assert.deepEqual(
    (await bell.eventsSoFar()).map((event) => pageOf(event)),
    [3, 4, 5],
  );
}

export async function returnLosesNothing(): Promise<void> {
  const { uffd, write } = armed();
  const bell = new Bell(uffd);
  write(1, 2, 3);
  const events = uffd.events();
  assert.equal(await pageOfNext(events.next()), 1);
  await events.return!();
  assert.deepEqual(await events.next(), DONE);
  assert.deepEqual(
    (await bell.eventsSoFar()).map((event) => pageOf(event)),
    [2, 3],
  );
}

export async function throwReleases(): Promise<void> {
  const { uffd, write } = armed();
  write(1);
  await assert.rejects(
    async () => {
      for await (const event of uffd) throw new Error(`in the body, page ${pageOf(event)}`);
    },
    { message: 'in the body, page 1' },
  );
  write(2);
  assert.deepEqual(await take(uffd, 1), [2]);
}

export async function abortedBefore(): Promise<void> {
  const { uffd, write } = armed();
  write(1);
  const reason = new Error('why');
  const events = uffd.events({ signal: AbortSignal.abort(reason) });
  await assert.rejects(events.next(), { name: 'AbortError', code: 'ABORT_ERR', cause: reason });
  assert.deepEqual(await events.next(), DONE);
  assert.deepEqual(await take(uffd, 1), [1]);
}

export async function abortedDuring(): Promise<void> {
  const { uffd, write } = armed();
  const controller = new AbortController();
  const reason = new Error('why');
  const events = uffd.events({ signal: controller.signal });
  const first = events.next();
  const second = events.next();
  controller.abort(reason);
  await assert.rejects(first, { name: 'AbortError', code: 'ABORT_ERR', cause: reason });
  assert.deepEqual(await second, DONE);
  assert.deepEqual(await events.next(), DONE);
  write(3);
  assert.deepEqual(await take(uffd, 1), [3]);
}

export async function abortedInLoop(): Promise<void> {
  const { uffd, write } = armed();
  const controller = new AbortController();
  write(1);
  const seen: number[] = [];
  await assert.rejects(
    async () => {
      for await (const event of uffd.events({ signal: controller.signal })) {
        seen.push(pageOf(event));
        controller.abort();
      }
    },
    { name: 'AbortError', code: 'ABORT_ERR' },
  );
  assert.deepEqual(seen, [1]);
  write(2);
  assert.deepEqual(await take(uffd, 1), [2]);
}

/** A signal that outlives many iterators must not collect a listener of each. */
export async function signalIsLetGo(): Promise<void> {
  const warnings: Error[] = [];
  process.on('warning', (warning) => warnings.push(warning));
  const { uffd, write } = armed();
  const { signal } = new AbortController();
  for (let i = 0; i < 50; i++) {
    write(1);
    assert.deepEqual(await take(uffd.events({ signal }), 1), [1]);
  }
  await turn();
  assert.deepEqual(warnings, []);
}

export async function returnWhileWaiting(): Promise<void> {
  const { uffd, write } = armed();
  const events = uffd.events();
  const waiting = [events.next(), events.next()];
  assert.deepEqual(await events.return!(), DONE);
  assert.deepEqual(await Promise.all(waiting), [DONE, DONE]);
  write(2);
  assert.deepEqual(await take(uffd, 1), [2]);
}

export async function closeWhileWaiting(): Promise<void> {
  const { uffd } = armed();
  const events = uffd.events();
  const waiting = [events.next(), events.next()];
  uffd.close();
  assert.deepEqual(await Promise.all(waiting), [DONE, DONE]);
  assert.deepEqual(await events.next(), DONE);
  assert.throws(() => uffd.events(), { code: 'ERR_UFFD_CLOSED' });
}

export async function closeInLoop(): Promise<void> {
  const { uffd, write } = armed();
  write(1);
  const seen: number[] = [];
  for await (const event of uffd) {
    seen.push(pageOf(event));
    uffd.close();
  }
  assert.deepEqual(seen, [1]);
}

export async function closeKeepsWhatHappened(): Promise<void> {
  const { uffd, write } = armed();
  const bell = new Bell(uffd);
  write(1);
  await bell.eventsSoFar();
  const events = uffd.events({ batch: 1 });
  write(2, 3, 4);
  // The write goes on before its event is there; the next fault is handled after that.
  write(5);
  const seen = [await pageOfNext(events.next())];
  uffd.close();
  for await (const event of events) seen.push(pageOf(event));
  assert.deepEqual(seen.slice(0, 3), [2, 3, 4]);
}

export async function severalNexts(): Promise<void> {
  const { uffd, write } = armed();
  const events = uffd.events();
  const nexts = Array.from({ length: 4 }, () => events.next());
  const order: number[] = [];
  nexts.forEach((next, i) => void next.then(() => order.push(i)));
  await turn();
  write(4, 3, 2, 1);
  assert.deepEqual(await Promise.all(nexts.map(pageOfNext)), [4, 3, 2, 1]);
  assert.deepEqual(order, [0, 1, 2, 3]);
}

export async function batches(): Promise<void> {
  for (const batch of [1, 2, 7, 65_536]) {
    const { uffd, region, write } = armed();
    const order = Array.from({ length: 40 }, (_, i) => (i * 5) % PAGES);
    write(...order);
    assert.deepEqual(await take(uffd.events({ batch }), 40), order, `batch ${batch}`);
    uffd.close();
    region.close();
  }
}

export async function unregisteredMeanwhile(): Promise<void> {
  const { uffd, region, write } = armed();
  const bell = new Bell(uffd);
  write(8);
  const other = Region.allocate({ bytes: 1 });
  uffd.register(other, 'missing');
  other.bytes[5] = 1;
  // A fault handled after these two: their events are there now.
  assert.deepEqual(pagesOfRegion(await bell.eventsSoFar(), region), [8]);
  write(9);
  const again = Region.allocate({ bytes: 1 });
  uffd.register(again, 'missing');
  again.bytes[5] = 1;
  until(() => uffd.armedPages(region) < PAGES);
  uffd.unregister(region);
  again.close();
  const events = await bell.eventsSoFar();
  assert.deepEqual(
    events.map((event) => (event as PageFault).region),
    [region, again],
  );
  assert.equal(pageOf(events[0]), 9);
}

function pagesOfRegion(events: UffdEvent[], region: Region): number[] {
  return events.filter((event) => (event as PageFault).region === region).map((event) => pageOf(event));
}

export function waitingIsReason(): void {
  const { uffd, region } = armed();
  void uffd.events().next();
  // Neither this timer nor anything else keeps the process alive.
  setTimeout(() => {
    assert.ok(region.byteLength > 0);
    process.exit(5);
  }, 100).unref();
}

export function unreferencedIsNoReason(): void {
  const { uffd } = armed();
  uffd.unref();
  void uffd
    .events()
    .next()
    .then(() => process.exit(9));
  ready();
}

/** Nothing keeps the event loop, so it has no turn in which it could tell of them. */
export async function unreferencedFindsWhatWaits(): Promise<void> {
  const { uffd, write } = armed();
  uffd.unref();
  const events = uffd.events();
  let seen: number;
  for (const page of [1, 3, 5]) {
    // The write goes on before its event is there; the next fault is handled after that.
    write(page, page + 1);
    do seen = await pageOfNext(events.next());
    while (seen !== page);
  }
}

export function unreferencedWhileWaiting(): void {
  const { uffd } = armed();
  void uffd
    .events()
    .next()
    .then(() => process.exit(9));
  uffd.unref();
  ready();
}

export function notWaitingIsNoReason(): void {
  const { uffd } = armed();
  uffd.events();
  ready();
}

export function returnedIsNoReason(): void {
  const { uffd } = armed();
  const events = uffd.events();
  void events.next();
  void events.return!();
  ready();
}

/** Once referenced again it keeps the process alive until the event comes. */
export async function referencedAgain(): Promise<void> {
  const { uffd, write } = armed();
  uffd.unref();
  const next = uffd.events().next();
  uffd.ref();
  setTimeout(() => write(2), 50).unref();
  assert.equal(await pageOfNext(next), 2);
  process.exitCode = 6;
}

/** A pending next() keeps the object: nobody else holds it. */
export async function waitingIsHeld(): Promise<void> {
  const region = sharedRegion(1);
  const next = ((): Promise<IteratorResult<UffdEvent>> => {
    const uffd = Userfaultfd.open();
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
    return uffd.events().next();
  })();
  for (let i = 0; i < 10; i++) {
    gc!();
    await turn();
  }
  region.bytes[region.pageSize] = 1;
  assert.equal(await pageOfNext(next), 1);
}

export async function inWorker(): Promise<void> {
  const worker = new Worker(path.join(__dirname, 'iterator-worker.js'), { workerData: { observe: true } });
  const [message] = (await once(worker, 'message')) as [unknown];
  assert.deepEqual(message, [3, 1, 2]);
  assert.deepEqual(await once(worker, 'exit'), [0]);
}

/** The queue of the kernel, of the loop and of the reader, all while the main thread looks elsewhere. */
export async function heldLoop(): Promise<void> {
  testing().disableNet('watchdog');
  const { uffd, region } = armed();
  const events = uffd.events();
  const next = events.next();
  testing().closeBarrier('loop-before-resolve');
  const worker = new Worker(path.join(__dirname, 'iterator-worker.js'), { workerData: { opens: true } });
  const exited = once(worker, 'exit');
  region.bytes[3 * region.pageSize] = 1;
  assert.equal(await pageOfNext(next), 3);
  await exited;
  await events.return!();
  assert.equal(untilSomebodySleeps(0).length, 0);
}

/** Who waited once is kept no longer than that: neither the iterator nor its userfaultfd. */
export async function droppedAfterWaiting(): Promise<void> {
  const dropped = await (async () => {
    const { uffd, region } = armed();
    const events = uffd.events();
    const next = events.next();
    region.bytes[region.pageSize] = 1;
    assert.equal(await pageOfNext(next), 1);
    return [new WeakRef<object>(events), new WeakRef<object>(uffd)];
  })();
  for (let i = 0; i < 10; i++) {
    global.gc!();
    await turn();
  }
  assert.deepEqual(
    dropped.map((each) => each.deref()),
    [undefined, undefined],
  );
}

/** Of an iterator that nobody returned: neither its place nor its duties outlive it. */
export async function droppedIterator(): Promise<void> {
  const region = Region.allocate({ bytes: 1 });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect', { resolve: 'handler', deadlineMs: 60_000 });
  uffd.writeProtect(region);
  for (let round = 0; round < 3; round++) {
    (() => {
      assert.equal(typeof uffd.events().next, 'function');
      assert.throws(() => uffd.events(), { code: 'ERR_UFFD_BUSY' });
    })();
    for (let i = 0; i < 5; i++) {
      global.gc!();
      await turn();
    }
    // A thread of the pool writes, and nobody is there to end its fault.
    await new Promise((resolve) => randomFill(region.bytes, resolve));
    const iterator = uffd.events();
    const { value } = (await iterator.next()) as IteratorResult<UffdEvent, undefined>;
    assert.equal((value as PageFault).endedBy, 'no-consumer');
    await iterator.return?.();
    uffd.writeProtect(region);
  }
}
