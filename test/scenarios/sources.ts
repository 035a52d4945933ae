// Missing pages that the loop fills without JavaScript: zeros, other memory, a file. Each function runs
// in a process of its own (test 33).

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes, randomFill } from 'node:crypto';
import fs from 'node:fs';
import { constants, tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { PageFault, Region, UffdError, Userfaultfd, type RegisterOptions } from '../../lib/index.js';
import { testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';
import { Bell, collectUntil, resources, sharedRegion, Toucher, withoutWatchdog } from './loop-support.js';

const PAGE = 4096;
const PAGES = 64;

function open(): Userfaultfd {
  return Userfaultfd.open({ features: ['EVENT_REMOVE', 'POISON'] });
}

/** A region whose missing pages come from there. */
function registered(
  options: RegisterOptions,
  pageCount = PAGES,
): { region: Region; uffd: Userfaultfd; bell: Bell } {
  const region = Region.allocate({ bytes: pageCount * PAGE });
  const uffd = open();
  const bell = new Bell(uffd);
  uffd.register(region, 'missing', options);
  return { region, uffd, bell };
}

function random(pageCount: number): Region {
  const region = Region.allocate({ bytes: pageCount * PAGE });
  region.bytes.set(randomBytes(pageCount * PAGE));
  return region;
}

/** Runs `use` with a file of these bytes. */
async function withFile(content: Uint8Array, use: (file: string) => unknown): Promise<void> {
  const directory = fs.mkdtempSync(path.join(tmpdir(), 'uffd-sources-'));
  try {
    const file = path.join(directory, 'content');
    fs.writeFileSync(file, content);
    await use(file);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

export async function regionAsSource(): Promise<void> {
  const source = random(PAGES);
  const { region, bell } = registered({ source });
  assert.equal(region.bytes[5 * PAGE + 3], source.bytes[5 * PAGE + 3]);
  region.bytes[6 * PAGE] = 1;
  const faults = await bell.faultsSoFar();
  assert.deepEqual(
    faults.map(({ reason, access, pageOffset, endedBy, action }) => [
      reason,
      access,
      pageOffset,
      endedBy,
      action,
    ]),
    [
      ['missing', 'read', 5 * PAGE, 'loop', 'copy'],
      ['missing', 'write', 6 * PAGE, 'loop', 'copy'],
    ],
  );
  const expected = Buffer.from(source.bytes);
  expected[6 * PAGE] = 1;
  assert.ok(same(region.bytes, expected));
  // What is filled is a copy.
  source.bytes[5 * PAGE] = expected[5 * PAGE]! ^ 0xff;
  assert.equal(region.bytes[5 * PAGE], expected[5 * PAGE]);
}

export async function partOfRegion(): Promise<void> {
  const source = random(8);
  const offset = 3 * PAGE + 100;
  const { region } = registered({ source: { region: source, offset } });
  const there = source.byteLength - offset;
  assert.ok(same(region.bytes.subarray(0, there), source.bytes.subarray(offset)));
  assert.ok(
    region.bytes.subarray(there).every((byte) => byte === 0),
    'zeros after its end',
  );
  await Promise.resolve();
}

/** Buffers of V8 that threads share, each with these bytes. */
const SHARED: Record<string, (bytes: Uint8Array) => Region> = {
  allocated(bytes) {
    const region = Region.allocate({ bytes: bytes.byteLength, shared: true });
    region.bytes.set(bytes);
    return region;
  },
  wasm(bytes) {
    const region = sharedRegion(bytes.byteLength);
    region.bytes.set(bytes);
    return region;
  },
  buffer(bytes) {
    // Begins anywhere in a page.
    const view = new Uint8Array(new SharedArrayBuffer(bytes.byteLength + 24), 24);
    view.set(bytes);
    return Region.from(view);
  },
};

/** Nothing but the registration holds the source. */
export async function sharedSource(kind: string): Promise<void> {
  const content = randomBytes(PAGES * PAGE);
  const offset = 3 * PAGE + 100;
  const { region, uffd } = registered({ source: { region: SHARED[kind]!(content), offset } });
  const there = content.byteLength - offset;
  for (let i = 0; i < 10; i++) {
    gc!();
    await new Promise((resolve) => setImmediate(resolve));
    // What would be given the memory, had it been given back.
    SHARED[kind]!(new Uint8Array(PAGES * PAGE).fill(0xee));
  }
  assert.ok(same(region.bytes.subarray(0, there), content.subarray(offset)));
  assert.ok(region.bytes.subarray(there).every((byte) => byte === 0));
  uffd.close();
}

/** C2: the loop has looked the source up and not yet read it, when it is given up and the source goes. */
export async function sourceVanishes(kind: 'region' | 'shared'): Promise<void> {
  const region = sharedRegion(PAGES * PAGE);
  const uffd = open();
  const reader = new Toucher(region.bytes, { offset: 5 * PAGE, access: 'read' });
  const place = (() => {
    const source = Region.allocate({ bytes: 4096 * PAGE, shared: kind === 'shared' });
    source.bytes.fill(0x77);
    uffd.register(region, 'missing', { source, fallback: 'zeropage' });
    return { address: testing().addressOf(source.bytes), source: new WeakRef(source) };
  })();
  testing().closeBarrier('server-before-load');
  reader.go();
  untilSomebodyWaitsAt('server-before-load');
  // The watchdog frees it: zeros were asked for.
  reader.untilDone();
  assert.equal(reader.lastRead, 0);
  uffd.close();
  // What the loop holds of our own memory stays; what V8 has is gone.
  await collectUntil(() => place.source.deref() === undefined);
  if (kind === 'shared') await collectUntil(() => !isMapped(place.address));
  assert.equal(isMapped(place.address), kind === 'region');
  testing().openBarrier('server-before-load');
  // Another one serves the memory.
  const next = open();
  next.register(region, 'missing');
  region.discard(6 * PAGE, PAGE);
  assert.equal(region.bytes[6 * PAGE], 0);
  next.close();
}

function isMapped(address: bigint): boolean {
  return fs
    .readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .some((line) => {
      const [start, end] = line.split(' ')[0]!.split('-');
      if (end === undefined || line.includes('---p')) return false;
      return BigInt(`0x${start}`) <= address && address < BigInt(`0x${end}`);
    });
}

/** D6: the loop never reads memory for whose pages it would have to wait. */
export async function sourceIsServed(): Promise<void> {
  const uffd = open();
  const refused = { code: 'ERR_UFFD_SOURCE_REGISTERED', message: /wait for itself|could wait/ };
  const region = Region.allocate({ bytes: 4 * PAGE });
  // The same memory under another name, allocated and shared.
  const twin = Region.attach(region.handle);
  assert.throws(() => uffd.register(region, 'missing', { source: twin }), refused);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const [first, second] = [Region.from(memory), Region.from(new Uint8Array(memory.buffer, 3 * PAGE))];
  assert.throws(() => uffd.register(first, 'missing', { source: second }), refused);
  // A source that would itself be served later, by this userfaultfd or another, or each the other's.
  const source = SHARED['wasm']!(new Uint8Array(PAGE).fill(5));
  const registration = uffd.register(region, 'missing', { source });
  using other = open();
  for (const each of [uffd, other]) {
    assert.throws(() => each.register(source, 'missing'), refused);
    assert.throws(() => each.register(source, ['missing', 'write-protect'], { source: twin }), refused);
  }
  // Writing to it may wait; reading does not.
  other.register(source, 'write-protect');
  other.writeProtect(source);
  assert.equal(region.bytes[0], 5);
  registration.close();
  other.unregister(source);
  other.register(source, 'missing');
  assert.throws(() => uffd.register(region, 'missing', { source }), refused);
  assert.deepEqual(uffd.registrations, []);
  await Promise.resolve();
}

/** The bytes stay for whoever reads them, and go with the last. */
export async function sourceCloses(): Promise<void> {
  const readAfterClose = (): void => {
    const source = random(PAGES);
    const expected = Buffer.from(source.bytes);
    const { region } = registered({ source });
    assert.equal(region.bytes[0], expected[0]);
    source.close();
    assert.ok(same(region.bytes, expected));
  };
  readAfterClose();
  await collectUntil(() => testing().mappedBytes() === 0);
}

export async function fileAsSource(): Promise<void> {
  const content = randomBytes(PAGES * PAGE - 100);
  await withFile(content, async (file) => {
    const { region, bell } = registered({ source: { file } }, PAGES + 2);
    const before = resources().descriptors;
    assert.equal(region.bytes[7 * PAGE + 1], content[7 * PAGE + 1]);
    const [fault] = await bell.faultsSoFar();
    assert.deepEqual([fault?.endedBy, fault?.action], ['loop', 'copy']);
    // The loop has the file open, whatever becomes of its name.
    fs.rmSync(file);
    assert.ok(same(region.bytes.subarray(0, content.byteLength), content));
    assert.ok(
      region.bytes.subarray(content.byteLength).every((byte) => byte === 0),
      'zeros after its end',
    );
    assert.equal(resources().descriptors, before);
  });
}

export async function partOfFile(): Promise<void> {
  const content = randomBytes(PAGES * PAGE);
  await withFile(content, (file) => {
    const descriptor = fs.openSync(file, 'r');
    const offset = 2 * PAGE + 5;
    const length = 3 * PAGE + 7;
    const { region } = registered({ source: { file: descriptor, offset, length } });
    // Ours is another descriptor of the same file.
    fs.closeSync(descriptor);
    assert.ok(same(region.bytes.subarray(0, length), content.subarray(offset, offset + length)));
    assert.ok(region.bytes.subarray(length).every((byte) => byte === 0));
  });
}

export async function refusesFiles(): Promise<void> {
  await withFile(new Uint8Array(2 * PAGE), (file) => {
    const uffd = open();
    const region = Region.allocate({ bytes: PAGE });
    const fifo = `${file}.fifo`;
    execFileSync('mkfifo', [fifo]);
    fs.writeFileSync(`${file}.empty`, '');
    const writeOnly = fs.openSync(`${file}.empty`, 'w');
    const forWriting = fs.openSync(file, 'a');
    const before = resources().descriptors;
    const refused = (source: object, code: string, message?: RegExp): void => {
      assert.throws(
        () => uffd.register(region, 'missing', { source: source as { file: string } }),
        (error: Error & { code: string }) => {
          assert.equal(error.code, code, error.message);
          if (code.startsWith('E') && !code.startsWith('ERR_')) assert.ok(error instanceof UffdError);
          assert.match(error.message, message ?? /./);
          return true;
        },
      );
    };
    refused(
      { file: path.join(tmpdir(), 'uffd-there-is-no-such-file') },
      'ENOENT',
      /page source .*no-such-file/,
    );
    refused({ file: 987_654 }, 'EBADF', /descriptor 987654/);
    refused({ file: tmpdir() }, 'EISDIR', /directory/);
    refused({ file: tmpdir(), length: PAGE }, 'EISDIR');
    for (const other of [fifo, '/dev/zero']) refused({ file: other }, 'EINVAL', /no regular file/);
    refused({ file: forWriting }, 'EBADF', /open for reading/);
    // Empty ones, and those that the kernel makes up, say nothing true of their size.
    const madeUp = ['/proc/version', '/sys/kernel/mm/transparent_hugepage/enabled', writeOnly];
    for (const other of madeUp) refused({ file: other }, 'ERR_INVALID_ARG_VALUE', /must have bytes/);
    refused({ file, offset: 2 * PAGE }, 'ERR_OUT_OF_RANGE', /source\.offset" .*must be < 8192/);
    refused({ file, offset: 10_000 }, 'ERR_OUT_OF_RANGE', /source\.offset" .*must be < 8192/);
    refused({ file, offset: PAGE, length: PAGE + 1 }, 'ERR_OUT_OF_RANGE', /source\.length" .*<= 4096/);
    const none = new WebAssembly.Memory({ initial: 0, maximum: 1, shared: true });
    refused({ region: Region.from(none) }, 'ERR_INVALID_ARG_VALUE', /no bytes yet/);
    assert.equal(resources().descriptors, before);
    assert.deepEqual(uffd.registrations, []);
    // A file without blocks is all holes, and as good as any.
    fs.truncateSync(`${file}.empty`, PAGE);
    uffd.register(region, 'missing', { source: { file: `${file}.empty` } });
    assert.equal(region.bytes[0], 0);
  });
}

/** A file that lost its bytes: never a zero where it had data (B3). */
export async function fileShrinks(fallback: 'poison' | 'zeropage'): Promise<void> {
  const content = randomBytes(4 * PAGE);
  await withFile(content, (file) => {
    const { region } = registered(
      fallback === 'poison' ? { source: { file } } : { source: { file }, fallback },
    );
    assert.equal(region.bytes[0], content[0]);
    fs.truncateSync(file, PAGE + 10);
    process.stdout.write('READY\n');
    // The whole page is lost, also the part that is still there.
    assert.equal(region.bytes[PAGE], 0);
    assert.equal(region.bytes[3 * PAGE], 0);
    assert.equal(fallback, 'zeropage');
  });
}

/** The same of a file that is mapped as a region: its pages behind the new end cannot be touched. */
export async function mappedFileShrinks(fallback: 'poison' | 'zeropage'): Promise<void> {
  const content = randomBytes(4 * PAGE);
  await withFile(content, (file) => {
    const mapped = Region.allocate({ bytes: 4 * PAGE, backing: 'file', path: file });
    // The last page is a part of a page of the source.
    const source = { region: mapped, offset: 10 };
    const { region } = registered(fallback === 'poison' ? { source } : { source, fallback });
    assert.equal(region.bytes[0], content[10]);
    fs.truncateSync(file, PAGE);
    process.stdout.write('READY\n');
    for (const page of [1, 3]) assert.equal(region.bytes[page * PAGE], 0);
    assert.equal(fallback, 'zeropage');
  });
}

/** Zeros are asked for by giving pages back, whatever the source says. */
export async function discardedReadsAsZero(): Promise<void> {
  const source = random(PAGES);
  const { region, uffd } = registered({ source });
  assert.ok(same(region.bytes, source.bytes));
  region.discard(8 * PAGE, 8 * PAGE);
  assert.ok(region.bytes.subarray(8 * PAGE, 16 * PAGE).every((byte) => byte === 0));
  assert.ok(same(region.bytes.subarray(16 * PAGE), source.bytes.subarray(16 * PAGE)));
  // Registered anew it is filled anew.
  uffd.unregister(region);
  region.discard();
  uffd.register(region, 'missing', { source });
  assert.ok(same(region.bytes, source.bytes));
  await Promise.resolve();
}

export function discardedElsewhere(): void {
  const source = random(PAGES);
  const region = Region.allocate({ bytes: PAGES * PAGE, backing: 'memfd' });
  const alias = region.alias();
  const uffd = open();
  uffd.register(region, 'missing', { source });
  assert.equal(region.bytes[0], source.bytes[0]);
  alias.discard(0, PAGE);
  // Never touched, so it has no page to give back.
  alias.discard(2 * PAGE, PAGE);
  for (const page of [0, 2]) {
    assert.ok(region.bytes.subarray(page * PAGE, (page + 1) * PAGE).every((byte) => byte === 0));
  }
  assert.equal(region.bytes[PAGE], source.bytes[PAGE]);
  uffd.close();
}

export function notMovedAway(): void {
  const source = random(PAGES);
  const { region, uffd } = registered({ source });
  const target = Region.allocate({ bytes: PAGE });
  uffd.register(target, 'missing');
  assert.equal(region.bytes[0], source.bytes[0]);
  assert.throws(() => uffd.move(target, 0, region, { offset: 0, length: PAGE }), {
    name: 'UffdError',
    code: 'ERR_UFFD_SOURCE_REGISTERED',
  });
  assert.equal(region.bytes[0], source.bytes[0]);
  assert.equal(target.bytes[0], 0);
  uffd.close();
}

/** B23: the loop has looked up the bytes, then the page is given back, then it installs them. */
export async function discardMeetsLookUp(): Promise<void> {
  withoutWatchdog();
  const source = random(PAGES);
  const region = sharedRegion(PAGES * PAGE);
  const uffd = open();
  uffd.register(region, 'missing', { source });
  const reader = new Toucher(region.bytes, { offset: 5 * PAGE, access: 'read' });
  testing().closeBarrier('server-after-load');
  reader.go();
  untilSomebodyWaitsAt('server-after-load');
  // discard() waits until the loop has read its event: another thread opens the barrier meanwhile.
  const opener = new Worker(
    `const { workerData } = require('node:worker_threads');
     process.env.UFFD_TEST_ADDON = '1';
     const { testing } = require(workerData.support);
     const nap = new Int32Array(new SharedArrayBuffer(4));
     const { readFileSync } = require('node:fs');
     const main = () => readFileSync('/proc/self/task/' + workerData.pid + '/wchan', 'utf8');
     while (!main().includes('userfaultfd_event')) Atomics.wait(nap, 0, 0, 1);
     testing().openBarrier('server-after-load');`,
    { eval: true, workerData: { pid: process.pid, support: require.resolve('../support/testing.js') } },
  );
  await new Promise((resolve) => opener.once('online', resolve));
  region.discard(5 * PAGE, PAGE);
  reader.untilDone();
  assert.equal(region.bytes[5 * PAGE], 0);
  assert.equal(reader.lastRead, 0);
  assert.equal(region.bytes[6 * PAGE], source.bytes[6 * PAGE]);
}

/** Every thread of the pool asleep in a page of a file: the loop needs no pool (D2). */
export async function poolThreads(): Promise<void> {
  const content = randomBytes(8 * PAGE);
  await withFile(content, async (file) => {
    const { region } = registered({ source: { file } }, 8);
    const fill = promisify(randomFill);
    await Promise.all(
      [0, 2, 4, 6].map((page) => fill(region.bytes.subarray(page * PAGE, page * PAGE + 100))),
    );
    for (const page of [0, 2, 4, 6]) {
      const rest = [page * PAGE + 100, (page + 2) * PAGE] as const;
      assert.ok(same(region.bytes.subarray(...rest), content.subarray(...rest)));
    }
  });
}

/** B16: pages that are filled while they are armed stay armed. */
export async function staysArmed(): Promise<void> {
  const count = 1000;
  const source = random(count);
  const region = Region.allocate({ bytes: count * PAGE });
  const uffd = open();
  const bell = new Bell(uffd);
  uffd.register(region, ['missing', 'write-protect'], { source });
  uffd.writeProtect(region);
  assert.ok(same(region.bytes, source.bytes));
  assert.equal(uffd.armedPages(region), count);
  for (let page = 0; page < 10; page++) region.bytes[page * PAGE] = 1;
  assert.equal(uffd.armedPages(region), count - 10);
  const faults = await bell.faultsSoFar();
  assert.ok(faults.every((fault) => fault instanceof PageFault));
  assert.equal(faults.filter(({ reason }) => reason === 'missing').length, count);
  assert.equal(faults.filter(({ reason }) => reason === 'write-protect').length, 10);
}

/** Arming meets the loop in the middle of filling a page. Each round is one more chance to lose the mark. */
export function armedWhileFilled(): void {
  const rounds = 600;
  const source = random(PAGES);
  const region = sharedRegion(PAGES * PAGE);
  const uffd = open();
  const toucher = new Toucher(region.bytes, { stride: PAGE, count: PAGES, access: 'read' });
  for (let round = 1; round <= rounds; round++) {
    const registration = uffd.register(region, ['missing', 'write-protect'], { source });
    toucher.go(round);
    // Another page of it each time.
    while (toucher.touched < (round - 1) * PAGES + (round % PAGES));
    uffd.writeProtect(region);
    toucher.untilDone(round);
    assert.equal(uffd.armedPages(region), PAGES);
    registration.close();
    region.discard();
  }
  toucher.end();
  uffd.close();
}

/** Nobody needs to read the events, and many threads may ask at once. */
export async function manyThreads(): Promise<void> {
  const pageCount = 2000;
  const content = randomBytes(pageCount * PAGE);
  await withFile(content, async (file) => {
    const region = sharedRegion(pageCount * PAGE);
    const uffd = open();
    uffd.register(region, 'missing', { source: { file } });
    const touchers = [0, 1, 2, 3].map(
      (first) =>
        new Toucher(region.bytes, { offset: first * 1000, stride: PAGE, count: pageCount, access: 'read' }),
    );
    for (const toucher of touchers) toucher.go();
    for (const toucher of touchers) toucher.untilDone();
    assert.ok(same(region.bytes.subarray(0, content.byteLength), content));
    uffd.close();
    await Promise.resolve();
  });
}

// Slow sources: the loop is held while it reads one.

/** Memory of the kinds that are read by the loop and not given in place. */
async function withReadSource(
  kind: string,
  use: (source: RegisterOptions['source']) => Promise<void>,
): Promise<void> {
  const content = new Uint8Array(PAGES * PAGE).fill(0x77);
  await withFile(content, async (file) => {
    if (kind === 'file') await use({ file });
    if (kind === 'mapped')
      await use(Region.allocate({ backing: 'file', path: file, bytes: content.byteLength }));
    if (kind === 'shared') await use(SHARED['allocated']!(content));
  });
}

/** A8 finds a loop that stands still, and one that reads is none: another that does is released meanwhile. */
export async function slowSource(kind: string): Promise<void> {
  await withReadSource(kind, async (source) => {
    const [region, held] = [sharedRegion(PAGES * PAGE), sharedRegion(PAGE)];
    const uffd = open();
    uffd.register(region, 'missing', source === undefined ? {} : { source });
    const reader = new Toucher(region.bytes, { offset: 5 * PAGE, access: 'read' });
    const writer = new Toucher(held.bytes);
    testing().closeBarrier('source-read');
    reader.go();
    untilSomebodyWaitsAt('source-read');
    testing().closeBarrier('loop-before-poll');
    const other = Userfaultfd.open();
    other.register(held, 'write-protect');
    other.writeProtect(held);
    writer.go();
    writer.untilDone();
    assert.throws(() => other.wake(held), { code: 'ERR_UFFD_LOOP_FAILED' });
    testing().openBarrier('loop-before-poll');
    assert.equal(reader.finishedRound, 0);
    testing().openBarrier('source-read');
    reader.untilDone();
    assert.equal(reader.lastRead, 0x77);
    assert.equal(region.bytes[9 * PAGE], 0x77);
    uffd.close();
    await Promise.resolve();
  });
}

/** Whoever waits while a source is read gets its bytes, also when its registration ends meanwhile. */
export async function endsWhileSourceIsRead(how: string): Promise<void> {
  await withReadSource('file', async (source) => {
    const region = Region.allocate({ bytes: PAGES * PAGE, shared: true });
    const uffd = open();
    const registration = uffd.register(region, 'missing', source === undefined ? {} : { source });
    const readers = [5, 6, 7].map(
      (page) => new Toucher(region.bytes, { offset: page * PAGE, access: 'read' }),
    );
    testing().closeBarrier('source-read');
    for (const reader of readers) {
      reader.go();
      untilAsleepInFault(reader.tid);
    }
    untilSomebodyWaitsAt('source-read');
    // This thread is about to wait for the loop: another one opens the barrier when it does.
    const control = new Int32Array(new SharedArrayBuffer(4));
    const opener = new Worker(
      `const { workerData: { control, support } } = require('node:worker_threads');
       const { testing } = require(support);
       const { readFileSync } = require('node:fs');
       const nap = new Int32Array(new SharedArrayBuffer(4));
       const waits = () => readFileSync('/proc/self/task/' + process.pid + '/wchan', 'utf8').includes('futex');
       while (Atomics.load(control, 0) === 0 || !waits()) Atomics.wait(nap, 0, 0, 1);
       Atomics.wait(nap, 0, 0, 50);
       testing().openBarrier('source-read');`,
      { eval: true, workerData: { control, support: require.resolve('../support/testing.js') } },
    );
    await new Promise((resolve) => opener.once('online', resolve));
    Atomics.store(control, 0, 1);
    if (how === 'unregister') uffd.unregister(region);
    if (how === 'registration') registration.close();
    if (how === 'close') uffd.close();
    for (const reader of readers) {
      reader.untilDone();
      assert.equal(reader.lastRead, 0x77);
    }
    assert.equal(region.bytes[9 * PAGE], 0);
    uffd.close();
  });
}

/**
 * B3: nearly all of the memory is there when the userfaultfd is given up, and what is not becomes no
 * zeros. Ends by SIGBUS, of the thread that reads it.
 */
export function givenUpNearTheEnd(): void {
  const pages = 32_768;
  const region = sharedRegion(pages * PAGE);
  const source = Region.allocate({ bytes: pages * PAGE });
  source.bytes.fill(0x77);
  const uffd = open();
  uffd.register(region, ['missing', 'write-protect'], { source });
  uffd.copy(region, 0, source.bytes.subarray(0, (pages - 1) * PAGE));
  const reader = new Toucher(region.bytes, { offset: (pages - 1) * PAGE, access: 'read' });
  process.stdout.write('READY\n');
  testing().injectResolveError(constants.errno.EIO);
  reader.go();
  reader.untilDone();
  process.stdout.write(`read ${reader.lastRead}\n`);
}

/** B3: what a userfaultfd that is given up did not come to. */
export async function givenUp(fallback: 'poison' | 'zeropage'): Promise<void> {
  const content = new Uint8Array(6 * PAGE - 10).fill(0x77);
  await withFile(content, async (file) => {
    const { region, uffd } = registered(
      { source: { file }, ...(fallback === 'zeropage' ? { fallback } : {}) },
      8,
    );
    assert.equal(uffd.handlesKernelFaults, true);
    assert.equal(region.bytes[0], 0x77);
    region.discard(PAGE, PAGE);
    testing().closeBarrier('server-before-load');
    const sink = fs.openSync(`${file}.sink`, 'w');
    const write = promisify(fs.write) as (fd: number, bytes: Uint8Array) => Promise<unknown>;
    const isRead = (page: number): Promise<unknown> =>
      write(sink, region.bytes.subarray(page * PAGE, page * PAGE + 100));
    const waiting = [2, 3].map(isRead);
    untilSomebodyWaitsAt('server-before-load');
    // The watchdog ends it. A system call that comes to a poisoned page fails.
    const ended = [...(await Promise.allSettled(waiting)), ...(await Promise.allSettled([4, 5].map(isRead)))];
    testing().openBarrier('server-before-load');
    for (const each of ended) {
      if (fallback === 'zeropage') assert.equal(each.status, 'fulfilled');
      else assert.equal((each as { reason?: { code: string } }).reason?.code, 'EFAULT');
    }
    assert.throws(() => uffd.wake(region), { code: 'ERR_UFFD_LOOP_FAILED' });
    // What is there, what was given back and what the source does not have are as they would be.
    assert.deepEqual(
      [0, 1, 6, 7].map((page) => region.bytes[page * PAGE]),
      [0x77, 0, 0, 0],
    );
    region.discard();
    assert.ok(region.bytes.every((byte) => byte === 0));
  });
}

/** A page of the source that is poisoned is a source that failed, also where only a part of it is meant. */
export async function poisonedSource(): Promise<void> {
  const source = random(2);
  const poisoner = open();
  source.discard(PAGE, PAGE);
  poisoner.register(source, 'missing');
  poisoner.poison(source, { offset: PAGE, length: PAGE });
  poisoner.close();
  for (const offset of [PAGE, PAGE + 100]) {
    const { region, uffd } = registered({ source: { region: source, offset }, fallback: 'zeropage' }, 2);
    assert.equal(region.bytes[0], 0);
    uffd.close();
  }
  await Promise.resolve();
}
