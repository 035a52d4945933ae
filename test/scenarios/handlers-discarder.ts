// A Worker that gives pages back while a main thread is about to fill them.

import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Region } from '../../lib/index.js';
import { testing, untilAsleepAt, untilSomebodyWaitsAt } from '../support/testing.js';

interface DiscardOrder {
  memory: WebAssembly.Memory;
  offset: number;
  length: number;
  /** The main thread waits there, and goes on when the pages are gone. */
  after?: string;
  /** The loop waits there, and goes on when the main thread waits for a lock. */
  whileHeldAt?: string;
}

if (!isMainThread) {
  const { memory, offset, length, after, whileHeldAt } = workerData as DiscardOrder;
  if (after !== undefined) untilSomebodyWaitsAt(after);
  Region.from(memory).discard(offset, length);
  if (after !== undefined) testing().openBarrier(after);
  if (whileHeldAt !== undefined) {
    untilSomebodyWaitsAt(whileHeldAt);
    parentPort!.postMessage('gone');
    untilAsleepAt(process.pid, 'futex');
    testing().openBarrier(whileHeldAt);
  }
}
