// A Worker that writes pages all over a part of a memory, without a pause.

import { parentPort, workerData } from 'node:worker_threads';
import { Region, type RegionHandle } from '../../lib/index.js';

/** The part is everything from `from` on, in bytes. */
export interface HammerData {
  handle: RegionHandle;
  from: number;
}

const { handle, from } = workerData as HammerData;
const { bytes, pageSize } = Region.attach(handle);
const pages = (bytes.length - from) / pageSize;
parentPort!.postMessage('ready');
// Until the Worker is terminated.
for (let page = 0, value = 1; ; page = (page + 7919) % pages) bytes[from + page * pageSize] = ++value;
