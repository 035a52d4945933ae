// Opens a barrier as soon as the main thread, which says when, waits for who is held there.

import { parentPort, workerData } from 'node:worker_threads';
import { testing, untilAsleepInFutex } from '../support/testing.js';

export interface Opening {
  barrier: string;
  /** Not zero, and notified, when the main thread does nothing any more but wait. */
  go: SharedArrayBuffer;
}

const { barrier, go } = workerData as Opening;
parentPort!.postMessage('ready');
Atomics.wait(new Int32Array(go), 0, 0);
untilAsleepInFutex(process.pid);
testing().openBarrier(barrier);
