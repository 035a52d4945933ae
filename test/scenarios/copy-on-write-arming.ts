// Arming much memory with a second thread's help. Each function runs in a process of its own (test 64);
// `resolver` is 'loop' or 'in-thread'.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { cpus } from 'node:os';
import { Worker } from 'node:worker_threads';
import { testing, threadName, untilNapping, untilSomebodyWaitsAt } from '../support/testing.js';
import {
  assertEqualBytes,
  assertNoCapture,
  bytesOf,
  CONTROL,
  fillPages,
  Helper,
  sharedWasm,
  take,
} from './copy-on-write-support.js';
import { PAGE, WASM_PAGE } from './dirty-support.js';
import { eventually, until } from './loop-support.js';

/** Enough for several parts. */
const BYTES = 64 * 2 ** 20;
const LAST = BYTES - PAGE;
const ENOMEM = 12;

/** Bit 57 of its entry: write-protected by a userfaultfd. */
function isArmed(bytes: Uint8Array, offset: number): boolean {
  const pagemap = openSync('/proc/self/pagemap', 'r');
  const entry = Buffer.alloc(8);
  readSync(pagemap, entry, 0, 8, ((Number(testing().addressOf(bytes)) + offset) / PAGE) * 8);
  closeSync(pagemap);
  return ((entry.readBigUInt64LE() >> 57n) & 1n) === 1n;
}

function helpers(): number {
  return testing().helpersAtWork();
}

/** The first one, which does all the work here. */
function helperId(): number {
  return Number(readdirSync('/proc/self/task').find((tid) => threadName(tid) === 'uffd-helper'));
}

function muchMemory(): WebAssembly.Memory {
  const memory = sharedWasm(BYTES / WASM_PAGE);
  fillPages(bytesOf(memory));
  testing().helpAlways(true);
  return memory;
}

/** Both threads are held: the first part is armed, the others are not. */
function holdBoth(taker: Helper): void {
  testing().closeBarrier('parts with a helper');
  testing().closeBarrier('helper takes a part');
  taker.go();
  untilSomebodyWaitsAt('parts with a helper');
  untilSomebodyWaitsAt('helper takes a part');
}

/** The helper arms all but the first part; a write to that part waits until the other thread is done, too. */
export function byTheHelper(resolver: string): void {
  const memory = muchMemory();
  const bytes = bytesOf(memory);
  // One after the other: what is first in the memory is written first.
  const memories = [memory, memory];
  const offsets = [PAGE, LAST];
  const before = offsets.map((offset) => bytes[offset]!);
  const taker = new Helper({ role: 'taker', memories: [memory], offsets, resolver, untilWaited: true });
  const writer = new Helper({ role: 'writer', memories, offsets });
  holdBoth(taker);
  assert.equal(isArmed(bytes, PAGE), true);
  assert.equal(isArmed(bytes, LAST), false);
  writer.goAndWait(resolver);
  testing().openBarrier('helper takes a part');
  until(() => isArmed(bytes, LAST));
  for (let offset = 0; offset < BYTES; offset += 2 ** 20) assert.equal(isArmed(bytes, offset), true);
  assert.equal(writer.done, 0, 'the snapshot is not taken yet');
  testing().openBarrier('parts with a helper');
  writer.untilDone(2);
  taker.untilDone(1);
  assert.equal(taker.control[CONTROL.seen], before[0]);
  assert.deepEqual([bytes[PAGE], bytes[LAST]], [200, 200]);
}

/** A helper that nobody runs is not waited for. */
export async function withoutTheHelper(resolver: string): Promise<void> {
  const memory = muchMemory();
  const before = Buffer.from(bytesOf(memory));
  testing().closeBarrier('helper begins');
  const snapshot = take(memory, resolver);
  assert.equal(helpers(), 1);
  bytesOf(memory).fill(9, LAST);
  bytesOf(memory).fill(9, 0, PAGE);
  await snapshot.ready;
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  // It finds nothing to do, also when what it was to do is gone.
  snapshot.close();
  testing().openBarrier('helper begins');
  await eventually(() => helpers() === 0);
  // So the next one has help again.
  testing().closeBarrier('helper begins');
  take(memory, resolver).close();
  assert.equal(helpers(), 1);
  testing().openBarrier('helper begins');
  await eventually(() => helpers() === 0);
}

/** What the helper was refused is told, and nothing stays armed. */
export async function failing(resolver: string): Promise<void> {
  const memory = muchMemory();
  const bytes = bytesOf(memory);
  const taker = new Helper({ role: 'taker', memories: [memory], offsets: [0], resolver });
  const failed = taker.event('error');
  holdBoth(taker);
  assert.equal(testing().refuseIoctl('UFFDIO_WRITEPROTECT', ENOMEM), 0);
  testing().openBarrier('helper takes a part');
  // It naps when there is no part any more, so the other thread is refused nothing.
  untilNapping(helperId());
  testing().openBarrier('parts with a helper');
  const [error] = (await failed) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ENOMEM');
  assertNoCapture();
  assert.equal(isArmed(bytes, PAGE), false);
  bytes.fill(7);
  await eventually(() => helpers() === 0);
}

/** Where all processors are busy nobody is asked to help. */
export async function onABusyMachine(resolver: string): Promise<void> {
  const memory = muchMemory();
  const helpersOfATake = (): number => {
    testing().closeBarrier('helper begins');
    using snapshot = take(memory, resolver);
    assert.equal(snapshot.read(0, 1)[0], bytesOf(memory)[0]);
    const count = helpers();
    testing().openBarrier('helper begins');
    return count;
  };
  assert.equal(helpersOfATake(), 1);
  await eventually(() => helpers() === 0);
  testing().helpAlways(false);
  const code = `require('node:worker_threads').parentPort.postMessage(0); for (;;);`;
  const busy = cpus().map(() => new Worker(code, { eval: true }));
  await Promise.all(busy.map((worker) => once(worker, 'message')));
  assert.equal(helpersOfATake(), 0);
  await Promise.all(busy.map((worker) => worker.terminate()));
}
