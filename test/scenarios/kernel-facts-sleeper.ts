// Sleeps until it is told to write, and then to stay awake.

import { parentPort, workerData } from 'node:worker_threads';
import { kernelThreadId } from '../support/testing.js';

/** Words of the memory. */
export const SLEEPER = { go: 0, written: 1, awake: 2 } as const;
/** What `awake` says: not yet, it is told to, it is, it may end. */
export const AWAKE = { no: 0, told: 1, yes: 2, over: 3 } as const;

function writeAndSleep(memory: SharedArrayBuffer): void {
  const words = new Int32Array(memory);
  parentPort!.postMessage(kernelThreadId());
  for (let go = 1; Atomics.load(words, SLEEPER.awake) === AWAKE.no; go++) {
    while (Atomics.load(words, SLEEPER.go) < go) Atomics.wait(words, SLEEPER.go, go - 1);
    Atomics.store(words, SLEEPER.written, go);
  }
  Atomics.store(words, SLEEPER.awake, AWAKE.yes);
  while (Atomics.load(words, SLEEPER.awake) === AWAKE.yes);
}

if (parentPort !== null) writeAndSleep(workerData as SharedArrayBuffer);
