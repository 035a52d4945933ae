// The other threads of the copy-on-write scenarios: one writes one byte after the other when it is told
// to, one takes a snapshot and tells what is in it.

import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Region } from '../../lib/index.js';
import { kernelThreadId, testing } from '../support/testing.js';
import { bytesOf, CONTROL, take } from './copy-on-write-support.js';
import { until } from './loop-support.js';

export interface Order {
  role: 'writer' | 'taker' | 'discarder' | 'owner' | 'blocked';
  memories: WebAssembly.Memory[];
  /** Of the byte in each memory. */
  offsets: number[];
  resolver?: string;
  /** The snapshot is to have had a writer wait. */
  untilWaited?: boolean;
  control: Int32Array;
}

function begin({ control }: Order): void {
  Atomics.store(control, CONTROL.tid, kernelThreadId());
  Atomics.notify(control, CONTROL.tid);
}

function awaitGo({ control }: Order, round: number): void {
  Atomics.wait(control, CONTROL.go, round);
}

function tellDone({ control }: Order): void {
  Atomics.add(control, CONTROL.done, 1);
  Atomics.notify(control, CONTROL.done);
}

/** At each `go` the byte of every memory, in their order. */
function write(order: Order): void {
  begin(order);
  for (let round = 0; ; round++) {
    awaitGo(order, round);
    order.memories.forEach((memory, i) => {
      bytesOf(memory)[order.offsets[i]!] = 200 + round;
      tellDone(order);
    });
  }
}

function takeAndTell(order: Order): void {
  begin(order);
  awaitGo(order, 0);
  const snapshot = take(order.memories, order.resolver!);
  order.memories.forEach((_memory, i) => {
    order.control[CONTROL.seen + i] = snapshot.read(order.offsets[i], 1, i)[0]!;
  });
  // Whoever had to wait is counted when it goes on.
  if (order.untilWaited === true) until(() => snapshot.progress.waits >= 1);
  tellDone(order);
}

/** Gives the page of the first memory back, then writes that of the second. */
function discardThenWrite(order: Order): void {
  begin(order);
  awaitGo(order, 0);
  Region.from(order.memories[0]!).discard(order.offsets[0], 4096);
  tellDone(order);
  bytesOf(order.memories[1]!)[order.offsets[1]!] = 200;
  tellDone(order);
}

/** Has a snapshot under way when it ends, in the way it is told. */
function own(order: Order): void {
  take(order.memories, order.resolver!, { bytesPerSecond: 1 });
  parentPort!.on('message', (how: string) => {
    if (how === 'exit') process.exit(0);
    parentPort!.close();
  });
  begin(order);
}

function writeBlocked(order: Order): void {
  testing().blockSigbus();
  write(order);
}

const roles = {
  writer: write,
  taker: takeAndTell,
  discarder: discardThenWrite,
  owner: own,
  blocked: writeBlocked,
};

if (!isMainThread) {
  const order = workerData as Order;
  roles[order.role](order);
}
