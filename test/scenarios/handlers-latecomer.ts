// A Worker that has a page given back and touched once more, between the answer of a handler and the end
// of its fault.

import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Region } from '../../lib/index.js';
import { testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';
import { CONTROL, pages, Toucher, until } from './loop-support.js';

export interface LatecomerOrder {
  memory: WebAssembly.Memory;
  page: number;
  /** Of the thread that was answered. */
  control: Int32Array;
}

function comeLate({ memory, page, control }: LatecomerOrder): void {
  const region = Region.from(memory);
  untilSomebodyWaitsAt('resolve-before-finish');
  until(() => Atomics.load(control, CONTROL.finishedRound) === 1);
  const { offset, length } = pages(region, page);
  region.discard(offset, length);
  const thread = new Toucher(region.bytes, { offset, access: 'read' });
  testing().closeBarrier('loop-before-poll');
  thread.go();
  untilAsleepInFault(thread.tid);
  // The loop has attached it to the open fault.
  untilSomebodyWaitsAt('loop-before-poll');
  testing().openBarrier('loop-before-poll');
  testing().openBarrier('resolve-before-finish');
  thread.untilDone();
  parentPort!.postMessage(thread.lastRead);
}

if (!isMainThread) comeLate(workerData as LatecomerOrder);
