// A Worker that gives pages back while a main thread is about to fill them.

import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Region } from '../../lib/index.js';
import { kernelTicks, testing, untilSomebodyWaitsAt } from '../support/testing.js';

interface DiscardOrder {
  memory: WebAssembly.Memory;
  offset: number;
  length: number;
  /** The main thread waits there, and goes on when the pages are gone. */
  after?: string;
  /** The loop waits there, and goes on when the main thread waits for it. */
  whileHeldAt?: string;
}

const pause = new Int32Array(new SharedArrayBuffer(4));

if (!isMainThread) {
  const { memory, offset, length, after, whileHeldAt } = workerData as DiscardOrder;
  if (after !== undefined) untilSomebodyWaitsAt(after);
  Region.from(memory).discard(offset, length);
  if (after !== undefined) testing().openBarrier(after);
  if (whileHeldAt !== undefined) {
    untilSomebodyWaitsAt(whileHeldAt);
    parentPort!.postMessage('gone');
    // It asks again and again whether it may go on.
    const before = kernelTicks(process.pid);
    while (kernelTicks(process.pid) < before + 5) Atomics.wait(pause, 0, 0, 1);
    testing().openBarrier(whileHeldAt);
  }
}
