// The threads that write while the main thread takes and restores snapshots.

import { isMainThread, workerData } from 'node:worker_threads';
import { seeded } from './dirty-support.js';

/** Words of `control`. `done` is one word for each writer. */
export const CONTROL = { go: 0, stop: 1, done: 2 } as const;
/** What `stop` says: write on, end the burst, end the thread. */
export const STOP = { no: 0, burst: 1, thread: 2 } as const;

export type SharedMemory = WebAssembly.Memory | SharedArrayBuffer;

export interface WriterData {
  id: number;
  control: SharedArrayBuffer;
  memories: SharedMemory[];
  /** Memory and word that are written in this order, each time with the same counter. */
  slots: (readonly [memory: number, word: number])[];
  /** At each `go` this many counters at most, then a pause; 0: no pause before `stop`. */
  burst: number;
  /** Write the slots in a random order instead, a random one at a time. */
  scatter: boolean;
}

export function wordsOf(memory: SharedMemory): Int32Array {
  return new Int32Array(memory instanceof WebAssembly.Memory ? memory.buffer : memory);
}

function write({ id, control: shared, memories, slots, burst, scatter }: WriterData): void {
  const control = new Int32Array(shared);
  const words = memories.map(wordsOf);
  const random = seeded(id + 1);
  let counter = 0;
  const stopped = (): boolean => Atomics.load(control, CONTROL.stop) !== STOP.no;
  for (let go = 1; ; go++) {
    while (Atomics.load(control, CONTROL.go) < go) {
      if (Atomics.load(control, CONTROL.stop) === STOP.thread) return;
      Atomics.wait(control, CONTROL.go, go - 1);
    }
    const count = burst === 0 ? Infinity : random(burst);
    for (let i = 0; i < count && !stopped(); i++) {
      counter++;
      if (scatter) {
        const [memory, word] = slots[random(slots.length)]!;
        Atomics.store(words[memory]!, word, counter);
      } else {
        for (const [memory, word] of slots) Atomics.store(words[memory]!, word, counter);
      }
    }
    Atomics.store(control, CONTROL.done + id, go);
    Atomics.notify(control, CONTROL.done + id);
  }
}

if (!isMainThread) write(workerData as WriterData);
