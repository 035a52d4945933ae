// Writes pages while another thread that takes an entry has collected and not copied yet.

import { parentPort, workerData } from 'node:worker_threads';
import { Region, type RegionHandle } from '../../lib/index.js';
import { testing, untilSomebodyWaitsAt } from '../support/testing.js';
import { touch } from './dirty-support.js';

export interface WhileCopying {
  handle: RegionHandle;
  how: 'through another mapping' | 'through a new mapping' | 'and the next look fails';
  /** In this order. */
  written: number[];
}

const EFAULT = 14;

function write({ handle, how, written }: WhileCopying): void {
  const region = Region.attach(handle);
  const known = how === 'through a new mapping' ? undefined : region.alias();
  testing().closeBarrier('copies handed over');
  parentPort!.postMessage('closed');
  untilSomebodyWaitsAt('copies handed over');
  const { bytes } = known ?? region.alias();
  for (const page of written) touch(bytes, page, 7);
  if (how === 'and the next look fails') testing().injectScanError(EFAULT);
  testing().openBarrier('copies handed over');
}

write(workerData as WhileCopying);
