// What the kernel does that this package relies on or has to tell (test 36). Each function runs in a process
// of its own.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import {
  capabilities,
  DirtyTracker,
  Region,
  Snapshot,
  Userfaultfd,
  type UffdEvent,
} from '../../lib/index.js';
import { runsOf, testing, wchan } from '../support/testing.js';
import { nextEvent } from './conformance-support.js';
import { AWAKE, SLEEPER } from './kernel-facts-sleeper.js';
import { Bell, pages, sharedMemory } from './loop-support.js';

const NOBODY = 65_534;

async function take(uffd: Userfaultfd, count: number): Promise<UffdEvent[]> {
  const events = uffd.events();
  const taken: UffdEvent[] = [];
  while (taken.length < count) taken.push(await nextEvent(events));
  await events.return!();
  return taken;
}

/** E */
export async function unmapIsNotClipped(): Promise<void> {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 3 });
  const uffd = Userfaultfd.open({ features: ['EVENT_UNMAP'] });
  const registration = uffd.register(Region.from(memory), 'write-protect');
  memory.grow(2);
  const region = Region.from(memory);
  assert.equal(testing().mapAnew(region.bytes), undefined);
  const [event] = await take(uffd, 1);
  assert.ok(event?.type === 'unmap');
  assert.deepEqual([event.offset, event.length], [0, 3 * registration.byteLength]);
}

/** E */
export async function remapThenUnmap(): Promise<void> {
  const region = Region.allocate({ bytes: 4 * 4096 });
  const uffd = Userfaultfd.open({ features: ['EVENT_REMAP', 'EVENT_UNMAP'] });
  uffd.register(region, 'write-protect');
  assert.equal(testing().remap(region.bytes, region.pageSize), undefined);
  const [remap, unmap] = await take(uffd, 2);
  assert.deepEqual(remap, { type: 'remap', region, offset: 0, length: region.byteLength });
  assert.ok(unmap?.type === 'unmap');
  assert.equal(unmap.length, region.byteLength);
}

/** E: the file is opened once, before. */
export function setuidAfterLoad(): void {
  assert.equal(capabilities().pagemapScan.works, true);
  process.setuid!(NOBODY);
  assert.throws(() => readFileSync('/proc/self/pagemap'), { code: 'EACCES' });
  const region = Region.allocate({ bytes: 4 * 4096 });
  using tracker = new DirtyTracker(region, { engine: 'wp-async' });
  region.bytes[4096] = 1;
  assert.equal(tracker.collect().pageCount, 1);
}

/** E: and without that, it is said what to do. */
export function setuidBeforeLoad(): void {
  process.setuid!(NOBODY);
  assert.deepEqual(capabilities().pagemapScan, { works: false, code: 'EACCES' });
  assert.throws(() => new DirtyTracker(Region.allocate({ bytes: 1 }), { engine: 'wp-async' }), {
    code: 'EACCES',
    hint: /before dropping privileges/,
  });
}

/** E: so features are asked for on a descriptor that is thrown away. */
export function secondHandshake(): void {
  const EINVAL = 22;
  assert.equal(testing().secondHandshake(), EINVAL);
  const uffd = Userfaultfd.open({ optionalFeatures: ['WP_UNPOPULATED', 'THREAD_ID'] });
  assert.ok(uffd.features.has('WP_UNPOPULATED'));
}

function mappings(): number {
  return readFileSync('/proc/self/maps', 'utf8').split('\n').length;
}

/** E: far more pieces than a process may have mappings. */
export function everyOtherPage(): void {
  const limit = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8'));
  const pieces = Math.min(limit, 70_000) + 100;
  const region = Region.allocate({ bytes: 2 * pieces * 4096 });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  const before = mappings();
  for (let page = 0; page < 2 * pieces; page += 2) uffd.writeProtect(region, pages(region, page));
  assert.ok(mappings() - before < 100, 'protection is no matter of mappings');
  assert.equal(uffd.armedPages(region), pieces);
}

/** E: a call that fails with EFAULT has taken the datagram already. */
export function datagram(how: 'user-mode-only' | 'kernel-faults' | 'wp-async'): void {
  const region = Region.allocate({ bytes: 4 * 4096 });
  using tracker = how === 'wp-async' ? new DirtyTracker(region, { engine: 'wp-async' }) : undefined;
  using uffd = how === 'wp-async' ? undefined : Userfaultfd.open({ userModeOnly: how === 'user-mode-only' });
  uffd?.register(region, 'write-protect');
  uffd?.writeProtect(region);
  const sockets = testing().datagramPair();
  assert.ok(Array.isArray(sockets));
  const [here, there] = sockets;
  for (const text of ['first', 'second']) writeSync(there, text);
  const receive = (): string => {
    const bytes = readSync(here, region.bytes, region.pageSize, 100, null);
    return Buffer.from(region.bytes.subarray(region.pageSize, region.pageSize + bytes)).toString();
  };
  if (how === 'user-mode-only') {
    assert.throws(receive, { code: 'EFAULT' });
    uffd!.unprotect(region);
    assert.equal(receive(), 'second', 'the first is lost');
  } else {
    assert.deepEqual([receive(), receive()], ['first', 'second']);
  }
  if (tracker !== undefined) assert.ok(tracker.collect().has(region.pageSize));
}

/**
 * E: a thread that faults inside a system call does not sleep while a signal waits for it: it faults
 * again and again, and each time the loop reads its fault anew.
 */
export async function signalInSystemCall(): Promise<void> {
  const memory = sharedMemory(1);
  const { bytes } = Region.from(memory);
  process.on('SIGUSR2', () => undefined);
  const worker = new Worker(path.join(__dirname, 'kernel-facts-server.js'), { workerData: { memory } });
  assert.deepEqual(await once(worker, 'message'), ['registered']);
  const zeros = openSync('/dev/zero', 'r');
  assert.equal(readSync(zeros, bytes, 0, 100, null), 100);
  closeSync(zeros);
  const [told] = (await once(worker, 'message')) as [string[]];
  assert.deepEqual(told, ['missing write 0']);
  assert.deepEqual(await once(worker, 'exit'), [0]);
}

/** E: registered and never armed. */
export async function neverArmed(): Promise<void> {
  const region = Region.allocate({ bytes: 4 * 4096 });
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  uffd.register(region, 'write-protect');
  assert.equal(uffd.armedPages(region), 0);
  region.bytes.fill(1);
  assert.deepEqual(await bell.eventsSoFar(), [], 'no write of it is told');
  uffd.close();

  // And whoever asks what was written since is told: everything.
  using asynchronous = Userfaultfd.open({ features: ['PAGEFAULT_FLAG_WP', 'WP_UNPOPULATED', 'WP_ASYNC'] });
  asynchronous.register(region, 'write-protect');
  const collect = (): unknown => testing().collectAndCopy(region.bytes, new Uint8Array(region.byteLength));
  assert.equal(collect(), region.byteLength);
  assert.equal(collect(), 0, 'that armed it');
}

/** E: the state of a generator is in the memory; a Snapshot puts it back with everything else. */
export function entropyRepeats(): void {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const state = new Uint32Array(memory.buffer, 1000, 1);
  state[0] = 0x9e3779b9;
  const next = (): number => {
    state[0]! ^= state[0]! << 13;
    state[0]! ^= state[0]! >>> 17;
    state[0]! ^= state[0]! << 5;
    return state[0]!;
  };
  using snapshot = Snapshot.take(memory);
  const first = [next(), next(), next()];
  assert.equal(new Set(first).size, 3);
  snapshot.restore();
  assert.deepEqual([next(), next(), next()], first);
}

/** B10: content and protection go together, without a word unless EVENT_REMOVE was asked for. */
export async function discardOfArmed(kind: 'anonymous' | 'wasm' | 'memfd'): Promise<void> {
  const region =
    kind === 'wasm'
      ? Region.from(new WebAssembly.Memory({ initial: 1 }))
      : Region.allocate({ bytes: 16 * 4096, backing: kind });
  const { pageSize } = region;
  for (const features of [[], ['EVENT_REMOVE']] as const) {
    using uffd = Userfaultfd.open({ features: [...features] });
    const bell = new Bell(uffd);
    uffd.register(region, 'write-protect');
    region.bytes.fill(7);
    uffd.writeProtect(region);
    region.discard(2 * pageSize, 3 * pageSize);
    const lost = kind === 'memfd' ? 0 : 3;
    assert.equal(uffd.armedPages(region), 16 - lost);
    assert.deepEqual([region.bytes[2 * pageSize], region.bytes[pageSize]], [0, 7]);
    const told = (await bell.eventsSoFar()).map(({ type }) => type);
    assert.deepEqual(told, features.length === 0 ? [] : ['remove']);
    // A write there is told again once it is armed again.
    uffd.writeProtect(region);
    region.bytes[3 * pageSize] = 1;
    const [fault] = await bell.faultsSoFar();
    assert.equal(fault?.pageOffset, 3 * pageSize);
  }
}

/** B10: what was given back under a snapshot comes back, and counts as written for a tracker. */
export function discardUnderSnapshot(): void {
  const memory = new WebAssembly.Memory({ initial: 2 });
  const bytes = new Uint8Array(memory.buffer);
  bytes.fill(3);
  using snapshot = Snapshot.take(memory);
  using tracker = new DirtyTracker(memory);
  Region.from(memory).discard(4096, 8192);
  assert.equal(bytes[4096], 0);
  assert.deepEqual([...tracker.collect()], [{ offset: 4096, length: 8192 }]);
  assert.deepEqual([...snapshot.diff()], [{ offset: 4096, length: 8192 }]);
  assert.equal(snapshot.restore().pages, 2);
  assert.ok(bytes.every((byte) => byte === 3));
}

/** B11: mapped anew or moved, the memory has lost its registration; arming it again says so. */
export function movedUnderProtection(how: 'mapAnew' | 'remap'): void {
  const region = Region.allocate({ bytes: 4 * 4096 });
  const uffd = Userfaultfd.open({ optionalFeatures: ['WP_UNPOPULATED'] });
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  assert.equal(uffd.armedPages(region), 4);
  const failure =
    how === 'remap' ? testing().remap(region.bytes, region.pageSize) : testing().mapAnew(region.bytes);
  assert.equal(failure, undefined);
  assert.equal(uffd.armedPages(region), 0, 'silently');
  const lost = { code: 'ENOENT', syscall: 'ioctl(UFFDIO_WRITEPROTECT)' };
  assert.throws(() => uffd.writeProtect(region), lost);
  assert.throws(() => uffd.unprotect(region), lost);
  region.bytes.fill(1);
  // Registered anew it is armed again.
  uffd.unregister(region);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  assert.equal(uffd.armedPages(region), 4);
}

/** B11: memory that grows while it is armed. */
export async function growthUnderProtection(): Promise<void> {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 4 });
  const region = Region.from(memory);
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  const registration = uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const before = region.byteLength;
  using snapshot = Snapshot.take(memory.buffer.slice(0));
  memory.grow(2);
  assert.equal(region.byteLength, 3 * before);
  assert.equal(registration.byteLength, before);
  assert.throws(() => uffd.writeProtect(region, { offset: before, length: 4096 }), {
    code: 'ERR_OUT_OF_RANGE',
  });
  region.bytes[before] = 1;
  region.bytes[0] = 1;
  const faults = await bell.faultsSoFar();
  assert.deepEqual(
    faults.map(({ offset }) => offset),
    [0],
    'the old part is still armed, the new one never was',
  );
  assert.equal(snapshot.byteLength, before);
}

/** C2: memory that another thread grows while native code copies and compares it. */
export async function growthDuringSweep(kind: 'wasm' | 'buffer'): Promise<void> {
  const most = 256;
  const memory = new WebAssembly.Memory({ initial: 16, maximum: most, shared: true });
  const Growable = SharedArrayBuffer as unknown as new (
    bytes: number,
    options: { maxByteLength: number },
  ) => SharedArrayBuffer;
  const buffer = new Growable(16 * 65_536, { maxByteLength: most * 65_536 });
  const worker = new Worker(
    `const { memory, buffer, most } = require('node:worker_threads').workerData;
     for (let pages = 17; pages <= most; pages++) {
       if (memory) memory.grow(1); else buffer.grow(pages * 65536);
       const bytes = new Uint8Array(memory ? memory.buffer : buffer);
       bytes[bytes.length - 1] = pages;
       Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
     }`,
    { eval: true, workerData: kind === 'wasm' ? { memory, most } : { buffer, most } },
  );
  const state = { running: true };
  worker.on('exit', () => (state.running = false));
  const target = kind === 'wasm' ? memory : buffer;
  using compare = new DirtyTracker(target, { engine: 'compare' });
  let largest = 0;
  while (state.running) {
    using snapshot = Snapshot.take(target);
    largest = Math.max(largest, snapshot.byteLength);
    compare.collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  compare.collect();
  using last = Snapshot.take(target);
  assert.equal(last.byteLength, most * 65_536);
  assert.equal(last.read(last.byteLength - 1, 1)[0], most & 0xff);
  assert.ok(largest > 16 * 65_536, 'it grew meanwhile');
}

/** What a thread did is told by how often it was given a processor, and where it sleeps. */
export async function whatAThreadDid(): Promise<void> {
  const memory = new SharedArrayBuffer(12);
  const words = new Int32Array(memory);
  const worker = new Worker(path.join(__dirname, 'kernel-facts-sleeper.js'), { workerData: memory });
  const ended = once(worker, 'exit');
  const [tid] = (await once(worker, 'message')) as [number];
  assert.equal(
    statSync('/proc/self/task').nlink,
    2 + readdirSync('/proc/self/task').length,
    'a link for each',
  );
  const order = (go: number): void => {
    Atomics.store(words, SLEEPER.go, go);
    Atomics.notify(words, SLEEPER.go);
  };
  const rounds = 2000;
  for (let go = 1; go < rounds; go++) {
    let runs = runsOf(tid);
    for (; wchan(tid) === '0' || runsOf(tid) !== runs; runs = runsOf(tid));
    order(go);
    while (Atomics.load(words, SLEEPER.written) !== go);
    assert.ok(runsOf(tid) > runs, `round ${go}: it wrote, and that it ran was counted before`);
  }
  Atomics.store(words, SLEEPER.awake, AWAKE.told);
  order(rounds);
  while (Atomics.load(words, SLEEPER.awake) !== AWAKE.yes);
  for (let i = 0; i < rounds; i++) assert.equal(wchan(tid), '0', 'a thread that is awake sleeps nowhere');
  Atomics.store(words, SLEEPER.awake, AWAKE.over);
  await ended;
}
