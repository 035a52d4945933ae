// Races of copy-on-write snapshots, made with barriers. Each function runs in a process of its own (test
// 64); `resolver` is 'loop' or 'in-thread'.

import assert from 'node:assert/strict';
import { Region, Snapshot } from '../../lib/index.js';
import { testing, untilSomebodyWaitsAt } from '../support/testing.js';
import {
  assertEqualBytes,
  assertNoCapture,
  bytesOf,
  captureDescriptors,
  CONTROL,
  fillPages,
  Helper,
  releaseSweep,
  sharedWasm,
  take,
  takeAndHold,
  TORN,
} from './copy-on-write-support.js';
import { PAGE, pagesOf, WASM, WASM_PAGE } from './dirty-support.js';
import { eventually, until, withoutWatchdog } from './loop-support.js';

/** A snapshot of two memories is held after it armed the first; somebody writes to both, in this order. */
export function betweenArming(resolver: string): void {
  const memories = [sharedWasm(4), sharedWasm(4)];
  const offsets = [2 * PAGE, 5 * PAGE];
  const taker = new Helper({ role: 'taker', memories, offsets, resolver, untilWaited: true });
  const writer = new Helper({ role: 'writer', memories, offsets });
  testing().closeBarrier('capture-between-arming');
  taker.go();
  untilSomebodyWaitsAt('capture-between-arming');
  writer.goAndWait(resolver);
  assert.equal(writer.done, 0, 'the first write waits for the second memory to be armed');
  testing().openBarrier('capture-between-arming');
  writer.untilDone(2);
  taker.untilDone(1);
  const [first, second] = taker.control.subarray(CONTROL.seen);
  assert.deepEqual([first, second], [0, 0], 'neither write is in the snapshot');
  assert.deepEqual(
    memories.map((memory, i) => bytesOf(memory)[offsets[i]!]),
    [200, 200],
  );
}

/** The same with pages given back instead of the first write: that comes before or after the instant, too. */
export function discardBetweenArming(resolver: string): void {
  const memories = [sharedWasm(4), sharedWasm(4)];
  const offsets = [2 * PAGE, 5 * PAGE];
  bytesOf(memories[0]!).fill(1);
  const taker = new Helper({ role: 'taker', memories, offsets, resolver });
  const discarder = new Helper({ role: 'discarder', memories, offsets });
  testing().closeBarrier('capture-between-arming');
  taker.go();
  untilSomebodyWaitsAt('capture-between-arming');
  discarder.go();
  // It has nothing else to wait for: if it does not wait, both are done soon.
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < 50 && discarder.done < 2; i++) Atomics.wait(pause, 0, 0, 1);
  testing().openBarrier('capture-between-arming');
  taker.untilDone(1);
  discarder.untilDone(2);
  const [first, second] = taker.control.subarray(CONTROL.seen);
  assert.ok(
    !(first === 1 && second === 200),
    'what came after is in the snapshot, so what came before must be',
  );
}

/** The background has claimed a page and not copied it; a writer comes to it. */
export async function claimedBySweep(resolver: string): Promise<void> {
  withoutWatchdog();
  const memory = sharedWasm(4);
  fillPages(bytesOf(memory));
  const before = Buffer.from(bytesOf(memory));
  const writer = new Helper({ role: 'writer', memories: [memory], offsets: [3] });
  testing().closeBarrier('capture-after-claim');
  const snapshot = take(memory, resolver);
  untilSomebodyWaitsAt('capture-after-claim');
  writer.goAndWait(resolver);
  assert.equal(writer.done, 0);
  testing().openBarrier('capture-after-claim');
  writer.untilDone(1);
  await snapshot.ready;
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  assert.deepEqual(pagesOf(snapshot.diff()), [0]);
  assert.equal(bytesOf(memory)[3], 200);
  assert.equal(snapshot.progress.faulted, 0, 'the background captured it');
  assert.equal(snapshot.restore().pages, 1);
  assertEqualBytes(bytesOf(memory), before, 'the memory');
}

/** A writer has its page claimed and not yet copied; the background comes to it, and so does a reader. */
export async function claimedByWriter(resolver: string): Promise<void> {
  withoutWatchdog();
  const memory = sharedWasm(4);
  fillPages(bytesOf(memory));
  const before = Buffer.from(bytesOf(memory));
  const writer = new Helper({ role: 'writer', memories: [memory], offsets: [3] });
  const snapshot = takeAndHold(memory, resolver);
  testing().closeBarrier('capture-after-claim');
  writer.go();
  untilSomebodyWaitsAt('capture-after-claim');
  releaseSweep();
  // At its own first page, having passed the writer's.
  until(() => testing().waitingAt('capture-after-claim') === 2);
  testing().openBarrier('capture-after-claim');
  writer.untilDone(1);
  await snapshot.ready;
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  assert.deepEqual(pagesOf(snapshot.diff()), [0]);
  assert.equal(snapshot.progress.faulted, 1);
  assert.equal(snapshot.progress.swept, 4 * WASM - 1);
}

/** A fault of one snapshot that was read and not ended when the next one arms the page again (B13). */
export async function lateFault(resolver: string): Promise<void> {
  withoutWatchdog();
  const memory = sharedWasm(4);
  fillPages(bytesOf(memory));
  const writer = new Helper({ role: 'writer', memories: [memory], offsets: [3] });
  const held = resolver === 'loop' ? 'loop-before-resolve' : 'sigbus-before-lookup';
  const old = takeAndHold(memory, resolver);
  testing().closeBarrier(held);
  writer.go();
  untilSomebodyWaitsAt(held);
  releaseSweep();
  old.close();
  assertNoCapture();
  if (resolver === 'loop') {
    // The loop ended with its snapshot, and the writer was let go.
    writer.untilDone(1);
    testing().openBarrier(held);
  }
  const before = Buffer.from(bytesOf(memory));
  const snapshot = takeAndHold(memory, resolver);
  testing().openBarrier(held);
  writer.untilDone(1);
  if (resolver === 'in-thread') assert.equal(snapshot.progress.faulted, 1, 'it belongs to the new one');
  // Every page is still protected: each write is captured first.
  const faulted = snapshot.progress.faulted;
  const bytes = bytesOf(memory);
  for (let page = 1; page < 4 * WASM; page++) bytes[page * PAGE] = 255;
  assert.equal(snapshot.progress.faulted, faulted + 4 * WASM - 1);
  writer.go();
  writer.untilDone(2);
  releaseSweep();
  await snapshot.ready;
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
}

/** The writer's thread comes to unprotect its page when the snapshot has let go of it (B13, B14). */
export async function unprotectAfterRelease(): Promise<void> {
  const memory = sharedWasm(4);
  fillPages(bytesOf(memory));
  const before = Buffer.from(bytesOf(memory));
  const writer = new Helper({ role: 'writer', memories: [memory], offsets: [3] });
  const snapshot = takeAndHold(memory, 'in-thread');
  testing().closeBarrier('capture-before-unprotect');
  writer.go();
  untilSomebodyWaitsAt('capture-before-unprotect');
  releaseSweep();
  // All is captured, and the wait for the writer's handler is all that is left to do.
  await eventually(() => captureDescriptors() <= 0);
  assert.equal(writer.done, 0);
  testing().openBarrier('capture-before-unprotect');
  writer.untilDone(1);
  await snapshot.ready;
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  assert.deepEqual(pagesOf(snapshot.diff()), [0]);
}

// Pages that go without being written

const MADV_DONTNEED = 4;
const MADV_REMOVE = 9;

function memoryOf(kind: string): { memory: Region | WebAssembly.Memory; bytes: Uint8Array; region: Region } {
  if (kind === 'wasm') {
    const memory = new WebAssembly.Memory({ initial: 4, maximum: 8 });
    return { memory, bytes: bytesOf(memory), region: Region.from(memory) };
  }
  const region = Region.allocate({ bytes: 4 * WASM_PAGE, backing: kind as 'anonymous' | 'memfd' });
  return { memory: region, bytes: region.bytes, region };
}

/** Either the bytes of the instant or an error; the second in the end. */
async function assertTornNeverWrong(snapshot: Snapshot, before: Uint8Array): Promise<void> {
  for (const offset of [0, 7 * PAGE, 9 * PAGE, 30 * PAGE]) {
    let read: Uint8Array;
    try {
      read = snapshot.read(offset, PAGE);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, TORN.code);
      continue;
    }
    assertEqualBytes(read, before.subarray(offset, offset + PAGE), `page ${offset / PAGE}`);
  }
  releaseSweep();
  await assert.rejects(snapshot.ready, TORN);
  assert.throws(() => snapshot.read(), TORN);
  assert.throws(() => snapshot.diff(), TORN);
  assert.throws(() => snapshot.restore(), TORN);
  snapshot.close();
  assertNoCapture();
}

/** madvise(2) by somebody else while nothing is captured yet (B10). */
export async function givenBack(resolver: string, kind: string): Promise<void> {
  const { memory, bytes } = memoryOf(kind);
  fillPages(bytes);
  const before = Buffer.from(bytes);
  const snapshot = takeAndHold(memory, resolver);
  // Of shared memory MADV_DONTNEED drops the mapping of the pages only, and keeps their bytes.
  const advice = kind === 'memfd' ? MADV_REMOVE : MADV_DONTNEED;
  assert.equal(testing().giveBack(bytes.subarray(7 * PAGE, 9 * PAGE), advice), undefined);
  assert.equal(bytes[7 * PAGE], 0);
  // The memory is an ordinary one: written where it was given back and elsewhere.
  bytes[7 * PAGE] = 255;
  bytes[30 * PAGE] = 255;
  await assertTornNeverWrong(snapshot, before);
}

/** Region.discard() while nothing is captured yet: captured first (B10). */
export async function discarded(resolver: string, kind: string, then: string): Promise<void> {
  const { memory, bytes, region } = memoryOf(kind);
  fillPages(bytes);
  const before = Buffer.from(bytes);
  const snapshot = takeAndHold(memory, resolver);
  region.discard(7 * PAGE, 2 * PAGE);
  assert.deepEqual([bytes[7 * PAGE], bytes[9 * PAGE - 1]], [0, 0]);
  bytes[8 * PAGE] = 255;
  bytes[30 * PAGE] = 255;
  assert.deepEqual(pagesOf(snapshot.diff()), [7, 8, 30]);
  if (then === 'restore') {
    assert.equal(snapshot.restore().pages, 3);
    assertEqualBytes(bytes, before, 'restored before ready');
    region.discard(7 * PAGE, PAGE);
  }
  releaseSweep();
  await snapshot.ready;
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  region.discard(20 * PAGE, PAGE);
  snapshot.restore();
  assertEqualBytes(bytes, before, 'restored after ready');
  assert.equal(snapshot.diff().isEmpty, true);
}

/** The event of a page given back was read and is not yet known when its page is captured (B10). */
export async function givenBackUnknown(resolver: string): Promise<void> {
  withoutWatchdog();
  const { memory, bytes } = memoryOf('memfd');
  fillPages(bytes);
  const before = Buffer.from(bytes);
  const snapshot = takeAndHold(memory, resolver);
  testing().closeBarrier('server-before-lost');
  assert.equal(testing().giveBack(bytes.subarray(7 * PAGE, 9 * PAGE), MADV_REMOVE), undefined);
  untilSomebodyWaitsAt('server-before-lost');
  testing().closeBarrier('sweep-before-check');
  releaseSweep();
  untilSomebodyWaitsAt('sweep-before-check');
  testing().openBarrier('sweep-before-check');
  testing().openBarrier('server-before-lost');
  await assertTornNeverWrong(snapshot, before);
}

/** mremap(2) to another place and back: the protection is gone (B11). */
export async function remapped(resolver: string, kind: string): Promise<void> {
  const { memory, bytes } = memoryOf(kind);
  fillPages(bytes);
  const before = Buffer.from(bytes);
  const snapshot = takeAndHold(memory, resolver);
  assert.equal(testing().remap(bytes, PAGE), undefined);
  bytes[7 * PAGE] = 255;
  bytes[30 * PAGE] = 255;
  await assertTornNeverWrong(snapshot, before);
}

/** Other memory is mapped in the place of a part of it (B11, C2). */
export async function replaced(resolver: string): Promise<void> {
  const { memory, bytes } = memoryOf('wasm');
  fillPages(bytes);
  const before = Buffer.from(bytes);
  const snapshot = takeAndHold(memory, resolver);
  assert.equal(testing().mapAnew(bytes.subarray(7 * PAGE, 9 * PAGE)), undefined);
  await assertTornNeverWrong(snapshot, before);
}

/** Wasm memory grows while it is captured, and what came with growth is written (B11). */
export async function grown(resolver: string): Promise<void> {
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 8 });
  fillPages(bytesOf(memory));
  const before = Buffer.from(bytesOf(memory));
  const snapshot = takeAndHold(memory, resolver);
  memory.grow(2);
  const bytes = bytesOf(memory);
  bytes[7 * PAGE] = 255;
  bytes[5 * WASM_PAGE] = 255;
  assert.deepEqual(pagesOf(snapshot.diff()), [7, 5 * WASM]);
  releaseSweep();
  await snapshot.ready;
  memory.grow(1);
  bytesOf(memory)[6 * WASM_PAGE] = 255;
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  assert.deepEqual(pagesOf(snapshot.diff()), [7, 5 * WASM, 6 * WASM]);
  snapshot.restore();
  assertEqualBytes(bytesOf(memory).subarray(0, before.length), before, 'the memory');
  assert.ok(
    bytesOf(memory)
      .subarray(before.length)
      .every((byte) => byte === 0),
  );
}

/** The watchdog lets a writer go whose fault nobody ends: nothing is told that may be wrong. */
export async function rescued(): Promise<void> {
  const memory = sharedWasm(4);
  fillPages(bytesOf(memory));
  const writer = new Helper({ role: 'writer', memories: [memory], offsets: [3] });
  const snapshot = takeAndHold(memory, 'loop');
  testing().closeBarrier('loop-before-resolve');
  writer.go();
  writer.untilDone(1);
  assert.throws(() => snapshot.read(0, PAGE), TORN);
  assert.throws(() => snapshot.diff(), TORN);
  testing().openBarrier('loop-before-resolve');
  releaseSweep();
  await assert.rejects(snapshot.ready, TORN);
}
