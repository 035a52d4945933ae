// A Worker that lets an event loop go that waits at a barrier, and cannot itself.

import { isMainThread, workerData } from 'node:worker_threads';
import { testing, untilAsleepInFutex, untilSomebodyWaitsAt } from '../support/testing.js';

export interface OpenerOrder {
  barrier: string;
  /** [0] how often somebody waited there, [1] how often it was told to go on. */
  seen: Int32Array;
  /** The barrier is opened when it was told to go on and this thread waits for another one. */
  afterThread?: number;
  times: number;
}

function open({ barrier, seen, afterThread, times }: OpenerOrder): void {
  for (let time = 1; time <= times; time++) {
    untilSomebodyWaitsAt(barrier);
    Atomics.store(seen, 0, time);
    Atomics.notify(seen, 0);
    if (afterThread !== undefined) {
      Atomics.wait(seen, 1, 0);
      untilAsleepInFutex(afterThread);
    }
    testing().openBarrier(barrier);
    // Until it is to be closed again.
    if (time < times) Atomics.wait(seen, 1, time - 1);
  }
}

if (!isMainThread) open(workerData as OpenerOrder);
