// Writes a page after each pass of an entry that the main thread takes, so that none is quiet.

import { parentPort, workerData } from 'node:worker_threads';
import { testing, untilSomebodyWaitsAt } from '../support/testing.js';

export const PASSES = ['copied, even pass', 'copied, odd pass'] as const;

function writeAfterEachPass({ memory, page }: { memory: SharedArrayBuffer; page: number }): void {
  const bytes = new Uint8Array(memory);
  const done = new Int32Array(memory, 0, 1);
  for (const name of PASSES) testing().closeBarrier(name);
  parentPort!.postMessage('closed');
  for (let pass = 0; pass < 64; pass++) {
    const [here, next] = [PASSES[pass % 2]!, PASSES[(pass + 1) % 2]!];
    untilSomebodyWaitsAt(here);
    bytes[page]!++;
    testing().closeBarrier(next);
    testing().openBarrier(here);
  }
  for (const name of PASSES) testing().openBarrier(name);
  Atomics.store(done, 0, 1);
  Atomics.notify(done, 0);
}

if (parentPort !== null) writeAfterEachPass(workerData as { memory: SharedArrayBuffer; page: number });
