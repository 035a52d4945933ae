// A Worker that lets a held resolve() go on, once a second thread sleeps on the page and the fault's
// deadline has passed.

import { isMainThread, workerData } from 'node:worker_threads';
import { testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';

if (!isMainThread) {
  const { tid, pastMs } = workerData as { tid: number; pastMs: number };
  untilSomebodyWaitsAt('resolve-after-claim');
  untilAsleepInFault(tid);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pastMs);
  untilAsleepInFault(tid);
  testing().openBarrier('resolve-after-claim');
}
