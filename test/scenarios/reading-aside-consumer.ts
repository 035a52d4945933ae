// A Worker that answers the faults of other threads. What it does not answer is poisoned.

import { isMainThread, workerData } from 'node:worker_threads';
import { PageFault, Region, type RegionHandle, Userfaultfd } from '../../lib/index.js';

export interface AsideOrder {
  handle: RegionHandle;
  /** 1: it is there. */
  ready: Int32Array;
}

async function consume({ handle, ready }: AsideOrder): Promise<void> {
  const region = Region.attach(handle);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 600_000, fallback: 'poison' });
  const events = uffd.events();
  Atomics.store(ready, 0, 1);
  Atomics.notify(ready, 0);
  const page = new Uint8Array(region.pageSize).fill(6);
  for await (const event of events) if (event instanceof PageFault) await event.resolve(page);
}

if (!isMainThread) void consume(workerData as AsideOrder);
