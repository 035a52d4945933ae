// A Worker that fills the missing pages of shared memory from a file, with asynchronous reads, and can
// be told to go wrong.

import { open } from 'node:fs/promises';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { PageFault, Region, Userfaultfd } from '../../lib/index.js';

export interface ServerOrder {
  file: string;
  memory: WebAssembly.Memory;
  deadlineMs: number;
  /** After so many faults: `never` resolves no more, `throw`s, or `exit`s. */
  goesWrongAfter?: number;
  how?: 'never' | 'throw' | 'exit';
}

async function serve(order: ServerOrder): Promise<void> {
  const file = await open(order.file);
  const region = Region.from(order.memory);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: order.deadlineMs });
  const events = uffd.events();
  parentPort!.postMessage('registered');
  let served = 0;
  for await (const fault of events) {
    if (!(fault instanceof PageFault)) continue;
    if (served++ === order.goesWrongAfter) {
      if (order.how === 'throw') throw new Error('the handler threw');
      if (order.how === 'exit') process.exit(3);
      if (order.how === 'never') return new Promise(() => undefined);
    }
    const page = new Uint8Array(region.pageSize);
    await file.read(page, 0, page.length, fault.pageOffset);
    await fault.resolve(page);
  }
}

if (!isMainThread) void serve(workerData as ServerOrder);
