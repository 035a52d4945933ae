// A Worker that lets an event loop go that waits at a barrier, and cannot itself.

import { isMainThread, workerData } from 'node:worker_threads';
import { testing, untilAsleepInFutex, untilSomebodyWaitsAt } from '../support/testing.js';
import { CONTROL } from './loop-support.js';

export interface OpenerOrder {
  barrier: string;
  /** [0] how often somebody waited there, [1] how often it was told to go on. */
  seen: Int32Array;
  times: number;
  /** What must have come before the barrier is opened. */
  after?: OpenAfter;
}

export type OpenAfter =
  /** The fault loop sleeps, and not just until it looks again. */
  | { is: 'loop asleep' }
  /** It was told to go on, and this thread waits for another one. */
  | { is: 'thread waiting'; tid: number }
  /** The page that the other thread waits for was touched by this one, too. */
  | { is: 'page touched'; bytes: Uint8Array; stride: number; control: Int32Array };

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function untilLoopSleeps(): void {
  for (let before = -1, now = 0; before !== now;) {
    before = testing().counts().poll;
    pause(20);
    now = testing().counts().poll;
  }
}

function prepare(after: OpenAfter, seen: Int32Array): void {
  if (after.is === 'loop asleep') untilLoopSleeps();
  if (after.is === 'thread waiting') {
    Atomics.wait(seen, 1, 0);
    untilAsleepInFutex(after.tid);
  }
  if (after.is === 'page touched') {
    const { bytes, stride, control } = after;
    Atomics.load(bytes, (Atomics.load(control, CONTROL.touched) * stride) % bytes.length);
  }
}

function open({ barrier, seen, times, after }: OpenerOrder): void {
  for (let time = 1; time <= times; time++) {
    untilSomebodyWaitsAt(barrier);
    Atomics.store(seen, 0, time);
    Atomics.notify(seen, 0);
    if (after !== undefined) prepare(after, seen);
    testing().openBarrier(barrier);
    // Until it is to be closed again.
    if (time < times) Atomics.wait(seen, 1, time - 1);
  }
}

if (!isMainThread) open(workerData as OpenerOrder);
