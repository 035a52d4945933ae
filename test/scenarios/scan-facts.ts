// What the kernel does with the marks of written pages (test 38). Each function runs in a process of its own.

import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  readv,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { isFailure } from '../../lib/binding.js';
import { DirtyTracker, Region, Userfaultfd, type DirtyEngine } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { ForkedChild, inherit } from './conformance-child.js';
import { allocate, HUGE, hugeBytes, makeHuge, nextEvent, nextFault } from './conformance-support.js';
import { PAGE, pageRun, pagesOf, sorted, touch } from './dirty-support.js';

const ENOMEM = 12;
const MADV_PAGEOUT = 21;
const [PROT_NONE, PROT_READ_WRITE] = [0, 3];

function track(memory: Region | Region[], engine: string): DirtyTracker {
  return new DirtyTracker(memory, { engine: engine as DirtyEngine });
}

function succeeded<T>(result: T): asserts result is Exclude<T, { errno: number }> {
  assert.ok(!isFailure(result), JSON.stringify(result));
}

/** The pages in a list of `[offset, length, …]`. */
function pagesIn(list: Float64Array): number[] {
  const pages: number[] = [];
  for (let i = 0; i < list.length; i += 2) pages.push(...pageRun(list[i]! / PAGE, list[i + 1]! / PAGE));
  return pages;
}

function scanned(region: Region, room: number): number[] {
  const found = testing().scanOnce(region.bytes, room);
  succeeded(found);
  return pagesIn(found);
}

/** E: nothing is clean before it was armed. */
export function neverArmedIsWritten(kind: string): void {
  const region = allocate(kind, 16);
  for (const page of [3, 9]) touch(region.bytes, page, 1);
  assert.equal(testing().registerUnarmed(region.bytes), undefined);
  const written = scanned(region, 64);
  for (const page of [3, 9]) assert.ok(written.includes(page), `page ${page}, nobody has armed it`);
  touch(region.bytes, 5, 1);
  assert.ok(scanned(region, 64).includes(5), 'nor has it been armed by being looked at before it existed');
}

/** E: what takes a mark away is a write, whatever the bytes are afterwards. */
export function countsAsWritten(engine: string): void {
  const region = Region.allocate({ bytes: 16 * PAGE });
  region.bytes.fill(7);
  using tracker = track(region, engine);
  region.bytes[PAGE] = 7;
  assert.deepEqual(pagesOf(tracker.collect()), [1], 'the value that was there');
  assert.equal(testing().dropPages(region.bytes.subarray(5 * PAGE, 7 * PAGE)), undefined);
  assert.deepEqual(pagesOf(tracker.collect()), [5, 6], 'MADV_DONTNEED');
  assert.equal(region.bytes[5 * PAGE], 0);
  assert.deepEqual(pagesOf(tracker.collect()), [], 'reading what was given back is no write');
  region.bytes[5 * PAGE] = 0;
  assert.deepEqual(pagesOf(tracker.collect()), [5], 'nor does a zero hide');
}

/** E: UFFDIO_COPY leaves a mark only when it is told to. */
export function copyWithoutProtection(): void {
  const region = Region.allocate({ bytes: 8 * PAGE });
  {
    using asynchronous = Userfaultfd.open({ features: ['PAGEFAULT_FLAG_WP', 'WP_UNPOPULATED', 'WP_ASYNC'] });
    asynchronous.register(region, ['missing', 'write-protect']);
    asynchronous.writeProtect(region);
    assert.deepEqual(scanned(region, 64), []);
    asynchronous.copy(region, 5 * PAGE, new Uint8Array(PAGE));
    asynchronous.copy(region, 6 * PAGE, new Uint8Array(PAGE), { writeProtect: true });
    assert.deepEqual(scanned(region, 64), [5], 'filled with zeros, it is written');
  }
  region.discard();
  using uffd = Userfaultfd.open();
  uffd.register(region, ['missing', 'write-protect']);
  uffd.writeProtect(region);
  assert.equal(uffd.armedPages(region), 8);
  const bytes = new Uint8Array(PAGE).fill(1);
  uffd.copy(region, PAGE, bytes);
  uffd.copy(region, 2 * PAGE, bytes, { writeProtect: true });
  const armed = (page: number): number => uffd.armedPages(region, { offset: page * PAGE, length: PAGE });
  assert.deepEqual([armed(0), armed(1), armed(2)], [1, 0, 1]);
  // So a tracker that comes later starts with pages that it arms itself.
  uffd.close();
  using tracker = new DirtyTracker(region);
  assert.deepEqual(pagesOf(tracker.collect()), []);
  touch(region.bytes, 1, 2);
  assert.deepEqual(pagesOf(tracker.collect()), [1]);
}

/** E: what is registered page by page is a mapping each; what is protected page by page is not. */
export function limitOfMappings(): void {
  const limit = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8'));
  const pieces = Math.min(limit, 70_000) + 100;
  const region = Region.allocate({ bytes: 2 * pieces * PAGE });
  const registered = testing().registerEveryOther(region.bytes);
  succeeded(registered);
  if (limit < 70_000) {
    assert.equal(registered.stoppedBy, ENOMEM);
    assert.ok(registered.count < limit, `${registered.count} of ${limit}`);
  }
  using tracker = new DirtyTracker(region, { engine: 'wp-async' });
  for (let page = 0; page < 2 * pieces; page += 2) region.bytes[page * PAGE] = 1;
  const dirty = tracker.collect();
  assert.equal(dirty.pageCount, pieces);
  // All the others are protected now, and one is as good as another.
  for (const page of [0, 1, 2 * pieces - 2, 2 * pieces - 1]) touch(region.bytes, page, 2);
  assert.deepEqual(pagesOf(tracker.collect()), [0, 1, 2 * pieces - 2, 2 * pieces - 1]);
}

/** F */
export function oneByteUnderHugePage(engine: string): void {
  const region = allocate('anonymous', (2 * HUGE) / PAGE, { hugePages: 'advise' });
  region.bytes.fill(1);
  makeHuge(region);
  using tracker = track(region, engine);
  assert.equal(hugeBytes(region), 2 * HUGE, 'arming splits none');
  region.bytes[HUGE + 5 * PAGE + 17] = 2;
  assert.deepEqual(pagesOf(tracker.collect()), [HUGE / PAGE + 5]);
  assert.equal(hugeBytes(region), HUGE, 'the other one is still whole');
  region.bytes[0] = 2;
  assert.deepEqual(pagesOf(tracker.collect()), [0]);
}

/** F: whether the kernel joins pages that are armed or not, it keeps what it knows of them. */
export function collapseKeepsState(kind: string, engine: string): void {
  const region = allocate(kind, (2 * HUGE) / PAGE, { hugePages: 'advise' });
  const { bytes } = region;
  const last = (2 * HUGE) / PAGE - 1;
  for (let page = 0; page <= last; page += 2) touch(bytes, page, 1);
  using tracker = track(region, engine);
  let joined = 0;
  for (let round = 0; round < 40; round++) {
    const before = sorted([round, 3 * round + 1, last - round]);
    const after = sorted([round + 7, 511, 512, last - 2 * round]);
    for (const page of before) touch(bytes, page, round + 2);
    if (testing().collapse(bytes) === undefined) joined++;
    for (const page of after) touch(bytes, page, round + 2);
    if (round % 2 === 0) testing().collapse(bytes);
    assert.deepEqual(pagesOf(tracker.collect()), sorted([...before, ...after]), `round ${round}`);
    assert.ok([...before, ...after].every((page) => bytes[page * PAGE] === round + 2));
    assert.deepEqual(pagesOf(tracker.collect()), []);
    // All written: then there is nothing that keeps the kernel from joining them.
    if (round % 8 === 3) {
      bytes.fill(round);
      if (testing().collapse(bytes) === undefined) joined++;
      assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, last + 1));
    }
  }
  // Tracked memory of a file is left alone.
  if (kind === 'anonymous') assert.ok(joined > 0, 'pages were joined meanwhile');
}

/** Of this memory, in bytes. */
function swappedBytes(region: Region): number {
  const at = testing().addressOf(region.bytes);
  const end = at + BigInt(region.byteLength);
  let bytes = 0;
  let isInside = false;
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const mapping = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (mapping !== null) isInside = BigInt(`0x${mapping[1]}`) < end && BigInt(`0x${mapping[2]}`) > at;
    const swapped = /^Swap:\s+(\d+) kB$/.exec(line);
    if (isInside && swapped !== null) bytes += Number(swapped[1]) * 1024;
  }
  return bytes;
}

/** MADV_PAGEOUT, until most of the pages are out. */
function pageOut(region: Region): void {
  const deadline = performance.now() + 5000;
  while (swappedBytes(region) < region.byteLength / 2) {
    assert.ok(
      performance.now() < deadline,
      `the kernel has put ${swappedBytes(region)} bytes on the swap device`,
    );
    assert.equal(testing().giveBack(region.bytes, MADV_PAGEOUT), undefined);
  }
}

/** F. The caller has seen to a swap file. */
export function swapKeepsState(kind: string, engine: string): void {
  const pages = 64;
  const region = allocate(kind, pages, { hugePages: 'never' });
  const { bytes } = region;
  for (let page = 0; page < pages; page++) bytes.fill(page + 1, page * PAGE, (page + 1) * PAGE);
  using tracker = track(region, engine);
  // Clean pages go out and come back.
  pageOut(region);
  assert.deepEqual(pagesOf(tracker.peek()), [], 'out');
  for (let page = 0; page < pages; page++) assert.equal(bytes[page * PAGE + 9], page + 1);
  assert.deepEqual(pagesOf(tracker.collect()), [], 'back');
  // Written ones go out.
  for (const page of [2, 3, 40]) touch(bytes, page, 200);
  pageOut(region);
  assert.deepEqual(pagesOf(tracker.peek()), [2, 3, 40]);
  assert.deepEqual(pagesOf(tracker.collect()), [2, 3, 40], 'and are armed where they are');
  pageOut(region);
  assert.deepEqual(pagesOf(tracker.collect()), []);
  // Pages that are out are written.
  for (const page of [3, 5, 63]) touch(bytes, page, 201);
  assert.deepEqual(pagesOf(tracker.collect()), [3, 5, 63]);
  assert.deepEqual([bytes[2 * PAGE], bytes[3 * PAGE], bytes[4 * PAGE]], [200, 201, 5]);
}

/** F */
export function outOfReachForAMoment(engine: string): void {
  const region = Region.allocate({ bytes: 32 * PAGE });
  region.bytes.fill(1, 0, 16 * PAGE);
  using tracker = track(region, engine);
  const part = region.bytes.subarray(4 * PAGE, 28 * PAGE);
  const away = (): void => assert.equal(testing().protect(part, PROT_NONE), undefined);
  const back = (): void => assert.equal(testing().protect(part, PROT_READ_WRITE), undefined);
  away();
  back();
  assert.deepEqual(pagesOf(tracker.collect()), [], 'clean pages are clean');
  for (const page of [5, 20]) touch(region.bytes, page, 2);
  away();
  // `compare` would have to read them.
  if (engine !== 'compare') assert.deepEqual(pagesOf(tracker.peek()), [5, 20]);
  back();
  assert.deepEqual(pagesOf(tracker.collect()), [5, 20]);
  away();
  if (engine !== 'compare') assert.deepEqual(pagesOf(tracker.collect()), []);
  back();
  for (const page of [6, 27]) touch(region.bytes, page, 3);
  assert.deepEqual(pagesOf(tracker.collect()), [6, 27], 'they are armed as before');
}

/** F: who writes without a thread of this program storing a byte. */
export function kernelWritesAreTracked(kind: string, engine: string): void {
  const region = allocate(kind, 32);
  const { bytes } = region;
  bytes.fill(1, 0, 16 * PAGE);
  using tracker = track(region, engine);
  const file = openSync(process.execPath, 'r');
  for (const first of [3, 20]) {
    const part = bytes.subarray(first * PAGE + 10, (first + 2) * PAGE + 10);
    assert.equal(readSync(file, part, 0, part.length, 0), part.length);
    assert.deepEqual(pagesOf(tracker.collect()), pageRun(first, 3), 'read(2)');
    const read = testing().readByRing(-1, file, PAGE, part);
    assert.equal(read, part.length, JSON.stringify(read));
    assert.deepEqual(pagesOf(tracker.collect()), pageRun(first, 3), 'io_uring');
    assert.equal(testing().writeFromOutside(part, first), undefined);
    assert.deepEqual(pagesOf(tracker.collect()), pageRun(first, 3), 'process_vm_writev(2)');
    assert.equal(part[0], first);
  }
  closeSync(file);
}

/** B6: pages that io_uring pinned before they were armed. */
export function fixedBuffersAreNotSeen(engine: string): void {
  const region = Region.allocate({ bytes: 8 * PAGE });
  region.bytes.fill(1);
  const pin = testing().pinPages(region.bytes);
  succeeded(pin);
  using tracker = track(region, engine);
  using consumer = tracker.consumer();
  const file = openSync(process.execPath, 'r');
  const target = region.bytes.subarray(2 * PAGE, 4 * PAGE);
  assert.equal(testing().readByRing(pin, file, 0, target), target.length);
  assert.deepEqual([...target.subarray(0, 4)], [0x7f, 0x45, 0x4c, 0x46], 'it was read');
  assert.deepEqual(pagesOf(tracker.collect()), engine === 'compare' ? [2, 3] : [], 'as documented');
  consumer.collect();
  // What a program says that knows of it.
  tracker.markDirty({ offset: 2 * PAGE, length: 2 * PAGE });
  for (const each of [tracker, consumer]) assert.deepEqual(pagesOf(each.collect()), [2, 3]);
  // Memory that is armed first: pinning it for writing is a write, so what follows is at least not clean.
  closeSync(pin);
  assert.deepEqual(pagesOf(tracker.collect()), []);
  const late = testing().pinPages(region.bytes);
  succeeded(late);
  if (engine !== 'compare') assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, 8));
  closeSync(late);
  closeSync(file);
}

/**
 * B6: an O_DIRECT read in flight. It has pinned its first page and waits in a fault for the second one when
 * the first is armed.
 */
export async function directReadInFlight(engine: string): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'userfaultfd-'));
  try {
    const name = path.join(directory, 'bytes');
    writeFileSync(name, new Uint8Array(2 * PAGE).fill(9));
    const file = openSync(name, constants.O_RDONLY | constants.O_DIRECT);
    const pinned = Region.allocate({ bytes: 4 * PAGE });
    pinned.bytes.fill(1);
    const waits = Region.allocate({ bytes: PAGE });
    using uffd = Userfaultfd.open({ userModeOnly: false });
    uffd.register(waits, 'missing', { resolve: 'handler', deadlineMs: 60_000 });
    const events = uffd.events();
    const page = pinned.bytes.subarray(PAGE, 2 * PAGE);
    const done = new Promise<number>((resolve, reject) => {
      readv(file, [page, waits.bytes], 0, (error, bytes) => {
        if (error === null) resolve(bytes);
        else reject(error);
      });
    });
    const fault = await nextFault(events);
    using tracker = track(pinned, engine);
    assert.equal(tracker.collect().isEmpty, true);
    assert.equal(page[0], 1, 'nothing was read yet');
    await fault.resolve();
    assert.equal(await done, 2 * PAGE);
    assert.ok(
      page.every((byte) => byte === 9),
      'now it was',
    );
    assert.deepEqual(pagesOf(tracker.collect()), engine === 'compare' ? [1] : [], 'as documented');
    tracker.markDirty({ offset: PAGE, length: PAGE });
    assert.deepEqual(pagesOf(tracker.collect()), [1]);
    closeSync(file);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** F: what a scan had no room for is written still. */
export function partialScan(kind: string): void {
  const region = allocate(kind, 64);
  using tracker = new DirtyTracker(region, { engine: 'wp-async' });
  const written = [1, 5, 6, 20, 33, 47, 62];
  for (const page of written) touch(region.bytes, page, 1);
  assert.deepEqual(scanned(region, 2), [1, 5, 6], 'room for two regions');
  // A write between the two to a page that was returned, and to one that was not.
  for (const page of [5, 33]) touch(region.bytes, page, 2);
  assert.deepEqual(pagesOf(tracker.peek()), [5, 20, 33, 47, 62]);
  assert.deepEqual(scanned(region, 1), [5]);
  assert.deepEqual(pagesOf(tracker.collect()), [20, 33, 47, 62]);
  assert.deepEqual(scanned(region, 64), []);
}

/** F: only a process that copies the memory raises the event. */
export async function spawnRaisesNoFork(): Promise<void> {
  const region = Region.allocate({ bytes: 4 * PAGE });
  inherit(region);
  const uffd = Userfaultfd.open({ features: ['EVENT_FORK'] });
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const events = uffd.events();
  for (let i = 0; i < 10; i++) assert.equal(testing().spawn('/bin/true'), 0);
  // The first event of all is that of a real fork, which comes after them.
  const child = new ForkedChild(region);
  const event = await nextEvent(events);
  assert.equal(event.type, 'fork');
  touch(region.bytes, 1, 1);
  const fault = await nextFault(events);
  assert.equal(fault.pageOffset, PAGE);
  assert.equal(child.end(), 0);
  await events.return!();
  uffd.close();
}

/** B1: so many regions in one scan, with so much room in the answer of each ioctl. */
export function matrix(room: string): void {
  testing().setScanRoom(Number(room));
  for (const count of [1, 2, 511, 512, 513, 1024, 1025, 4096]) {
    const region = Region.allocate({ bytes: (2 * count + 1) * PAGE });
    const { bytes } = region;
    using tracker = new DirtyTracker(region, { engine: 'wp-async' });
    const isOdd = (page: number): boolean => page % 2 === 1;
    const odd = pageRun(0, 2 * count + 1).filter(isOdd);
    for (const look of ['peek', 'collect'] as const) {
      for (const page of odd) bytes[page * PAGE] = 1;
      const dirty = tracker[look]();
      const ranges = [...dirty];
      const what = `${count} regions, room for ${room}, ${look}`;
      assert.equal(ranges.length, count, what);
      for (const [i, { offset, length }] of ranges.entries()) {
        if (offset !== odd[i]! * PAGE || length !== PAGE) assert.fail(`${what}: ${i} is ${offset}+${length}`);
      }
    }
    assert.equal(tracker.collect().isEmpty, true, 'all were armed again');
    // All of it in one piece, and the first and last page.
    bytes.fill(2);
    assert.deepEqual([...tracker.collect()], [{ offset: 0, length: region.byteLength }]);
    for (const page of [0, 2 * count]) touch(bytes, page, 3);
    assert.deepEqual(pagesOf(tracker.collect()), [0, 2 * count]);
    region.close();
  }
}
