// A Worker that opens a userfaultfd of its own. The main thread need not have loaded the addon.

import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Region, Userfaultfd } from '../../lib/index.js';
import { kernelThreadId, testing, untilSomebodyWaitsAt } from '../support/testing.js';

export type Net = 'exit' | 'cleanup' | 'watchdog';

export interface OwnerOrder {
  memory: WebAssembly.Memory;
  disabledNets: Net[];
  /** Hold the loop before it reads any fault. */
  hold: boolean;
  /** `sleep`: write to its own armed page. `wait`: until it is told how to end. `return`: end at once. */
  then: 'sleep' | 'wait' | 'return';
  /** [0] its thread id, [1] set when armed. */
  control: Int32Array;
  features?: ('EVENT_REMOVE' | 'EVENT_UNMAP')[];
}

/** Held for good: what nobody holds is released by the garbage collector, and then nobody sleeps. */
const held: Userfaultfd[] = [];

function own({ memory, disabledNets, hold, then, control, features = [] }: OwnerOrder): void {
  for (const net of disabledNets) testing().disableNet(net);
  if (hold) testing().closeBarrier('loop-before-poll');
  const region = Region.from(memory);
  const uffd = Userfaultfd.open({ features });
  held.push(uffd);
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  if (hold) untilSomebodyWaitsAt('loop-before-poll');
  Atomics.store(control, 0, kernelThreadId());
  Atomics.store(control, 1, 1);
  Atomics.notify(control, 1);
  if (then === 'sleep') region.bytes[region.pageSize] = 1;
  if (then !== 'wait') return;
  parentPort!.on('message', (how: 'return' | 'exit') => {
    if (how === 'exit') process.exit(0);
    parentPort!.close();
  });
}

if (!isMainThread) own(workerData as OwnerOrder);
