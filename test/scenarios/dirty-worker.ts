// The thread of a PageWriter.

import { isMainThread, workerData } from 'node:worker_threads';
import { PAGE, WRITER, type PageWriterData } from './dirty-support.js';

function serve({ memory, control: shared }: PageWriterData): void {
  const control = new Int32Array(shared);
  for (let turn = 1; ; turn += 2) {
    while (Atomics.load(control, WRITER.turn) !== turn) Atomics.wait(control, WRITER.turn, turn - 1);
    const command = control[WRITER.command];
    const count = control[WRITER.count]!;
    if (command === WRITER.grow) (memory as WebAssembly.Memory).grow(count);
    if (command === WRITER.write) {
      const pages = control.slice(WRITER.list, WRITER.list + count);
      const end = Math.max(0, ...pages) * PAGE;
      let bytes: Uint8Array;
      // Growth in another thread reaches this one at an interrupt check of the engine.
      do bytes = new Uint8Array(memory instanceof WebAssembly.Memory ? memory.buffer : memory);
      while (bytes.byteLength <= end);
      for (const page of pages) bytes[page * PAGE] = control[WRITER.value]!;
    }
    Atomics.store(control, WRITER.turn, turn + 1);
    Atomics.notify(control, WRITER.turn);
    if (command === WRITER.end) return;
  }
}

if (!isMainThread) serve(workerData as PageWriterData);
