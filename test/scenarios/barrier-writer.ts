// Writes a page each time the main thread waits at the next of the barriers, and lets it go on.

import { once } from 'node:events';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { kernelThreadId, testing, untilAsleepInFutex } from '../support/testing.js';

interface Task {
  memory: SharedArrayBuffer;
  /** Of the byte that is written at each of the barriers; the last one also at those after. */
  offsets: readonly number[];
  barriers: readonly string[];
  /** It never sleeps, until this is not 0. */
  awakeUntil?: SharedArrayBuffer;
}

function writeAtBarriers({ memory, offsets, barriers, awakeUntil }: Task): void {
  const bytes = new Uint8Array(memory);
  testing().closeBarrier(barriers[0]!);
  parentPort!.postMessage(kernelThreadId());
  for (const [i, here] of barriers.entries()) {
    if (awakeUntil !== undefined) while (testing().waitingAt(here) === 0);
    else while (!testing().awaitAt(here));
    bytes[offsets[i] ?? offsets.at(-1)!]!++;
    const next = barriers[i + 1];
    if (next !== undefined) testing().closeBarrier(next);
    testing().openBarrier(here);
  }
  if (awakeUntil === undefined) return;
  const over = new Int32Array(awakeUntil);
  while (Atomics.load(over, 0) === 0);
}

/** Returns when the first barrier is closed, and the writer sleeps if it ever does. */
export async function startWriter(task: Task): Promise<{ ended: Promise<unknown> }> {
  const worker = new Worker(__filename, { workerData: task });
  const ended = once(worker, 'exit');
  const [tid] = (await once(worker, 'message')) as [number];
  if (task.awakeUntil === undefined) untilAsleepInFutex(tid);
  return { ended };
}

if (parentPort !== null) writeAtBarriers(workerData as Task);
