// A Worker that lets the loop go on when the main thread waits for a lock that the loop has.

import { readFileSync } from 'node:fs';
import { isMainThread, workerData } from 'node:worker_threads';
import { testing } from '../support/testing.js';

if (!isMainThread) {
  const { control } = workerData as { control: Int32Array };
  const pause = new Int32Array(new SharedArrayBuffer(4));
  Atomics.store(control, 0, 1);
  while (Atomics.load(control, 0) !== 2) Atomics.wait(pause, 0, 0, 1);
  // In its collect(), or past it.
  while (!readFileSync(`/proc/${process.pid}/wchan`, 'utf8').includes('futex')) Atomics.wait(pause, 0, 0, 1);
  testing().openBarrier('written-after-note');
}
