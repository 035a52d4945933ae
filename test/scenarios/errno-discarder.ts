// A Worker that gives pages of a region back, and waits until the event of that was read.

import { isMainThread, workerData } from 'node:worker_threads';
import { Region, type RegionHandle } from '../../lib/index.js';

if (!isMainThread) {
  const { handle, offset, length } = workerData as { handle: RegionHandle; offset: number; length: number };
  Region.attach(handle).discard(offset, length);
}
