// A Worker that lets a main thread go on that is held at a barrier, once another thread sleeps in a
// fault, and has for a while.

import { isMainThread, workerData } from 'node:worker_threads';
import { testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';

if (!isMainThread) {
  const { barrier, tid, pastMs } = workerData as { barrier: string; tid: number; pastMs: number };
  untilSomebodyWaitsAt(barrier);
  untilAsleepInFault(tid);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pastMs);
  untilAsleepInFault(tid);
  testing().openBarrier(barrier);
}
