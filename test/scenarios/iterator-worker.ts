// The Workers of iterator.ts.

import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Region, Userfaultfd } from '../../lib/index.js';
import { testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';

interface Order {
  observe?: boolean;
  opens?: boolean;
}

async function observe(): Promise<void> {
  const { pageSize } = Region.allocate({ bytes: 1 });
  const region = Region.allocate({ bytes: 8 * pageSize });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const seen: number[] = [];
  setImmediate(() => {
    for (const page of [3, 1, 2]) region.bytes[page * pageSize] = 1;
  });
  for await (const event of uffd) {
    if (event.type === 'pagefault') seen.push(event.offset / pageSize);
    if (seen.length === 3) break;
  }
  parentPort!.postMessage(seen);
}

if (!isMainThread) {
  const order = workerData as Order;
  if (order.observe === true) void observe();
  if (order.opens === true) {
    untilSomebodyWaitsAt('loop-before-resolve');
    untilAsleepInFault(process.pid);
    testing().openBarrier('loop-before-resolve');
  }
}
