// Writes a page each time the main thread waits at the next of the barriers, and lets it go on.

import { once } from 'node:events';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { testing, untilSomebodyWaitsAt } from '../support/testing.js';

interface Task {
  memory: SharedArrayBuffer;
  /** Of the byte that is written at each of the barriers; the last one also at those after. */
  offsets: readonly number[];
  barriers: readonly string[];
  /** It never sleeps. */
  awake?: boolean;
}

function writeAtBarriers({ memory, offsets, barriers, awake = false }: Task): void {
  const bytes = new Uint8Array(memory);
  testing().closeBarrier(barriers[0]!);
  parentPort!.postMessage('closed');
  for (const [i, here] of barriers.entries()) {
    while (awake && testing().waitingAt(here) === 0);
    untilSomebodyWaitsAt(here);
    bytes[offsets[i] ?? offsets.at(-1)!]!++;
    const next = barriers[i + 1];
    if (next !== undefined) testing().closeBarrier(next);
    testing().openBarrier(here);
  }
}

/** Returns when the first barrier is closed. */
export async function startWriter(task: Task): Promise<{ ended: Promise<unknown> }> {
  const worker = new Worker(__filename, { workerData: task });
  const ended = once(worker, 'exit');
  await once(worker, 'message');
  return { ended };
}

if (parentPort !== null) writeAtBarriers(workerData as Task);
