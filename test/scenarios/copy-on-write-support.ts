// What the scenarios of copy-on-write snapshots share: taking one whose background is held, threads that
// write, and looking at what came of it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { Snapshot, type SnapshotOptions, type SnapshotResolver, type Trackable } from '../../lib/index.js';
import { testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';
import type { Order } from './copy-on-write-worker.js';
import { until, userfaultfdDescriptors } from './loop-support.js';

export const TORN = { code: 'ERR_UFFD_SNAPSHOT_TORN' };
export const CLOSED = { code: 'ERR_UFFD_CLOSED' };
const SWEEP = 'sweep-before-first';

export function take(
  memory: Trackable | readonly Trackable[],
  resolver: string,
  options: SnapshotOptions = {},
): Snapshot {
  return Snapshot.take(memory, {
    mode: 'copy-on-write',
    resolver: resolver as SnapshotResolver,
    ...options,
  });
}

/** The background has not begun when it returns and does not until `releaseSweep()`. */
export function takeAndHold(
  memory: Trackable | readonly Trackable[],
  resolver: string,
  options: SnapshotOptions = {},
): Snapshot {
  testing().closeBarrier(SWEEP);
  const snapshot = take(memory, resolver, options);
  untilSomebodyWaitsAt(SWEEP);
  return snapshot;
}

export function releaseSweep(): void {
  testing().openBarrier(SWEEP);
}

/** Bytes that tell pages apart. */
export function fillPages(bytes: Uint8Array, seed = 1, pageSize = 4096): void {
  for (let at = 0, page = seed; at < bytes.length; at += pageSize, page++) {
    bytes.fill(1 + (page % 251), at, at + pageSize);
  }
}

export function assertEqualBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  assert.fail(`${what}: byte ${at} is ${actual[at]}, not ${expected[at]}`);
}

/** Descriptors, but for the one that all asynchronous tracking shares and keeps. */
export function captureDescriptors(): number {
  return userfaultfdDescriptors().length - 1;
}

export function assertNoCapture(): void {
  assert.ok(captureDescriptors() <= 0, 'a descriptor is still open');
}

export function sharedWasm(wasmPages: number, maximum = wasmPages): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: wasmPages, maximum, shared: true });
}

export function bytesOf(memory: WebAssembly.Memory): Uint8Array {
  return new Uint8Array(memory.buffer);
}

/** Indexes into `control`. */
export const CONTROL = { tid: 0, go: 1, done: 2, seen: 3, length: 16 } as const;

/** A thread with an order of its own. */
export class Helper {
  readonly worker: Worker;
  readonly control = new Int32Array(new SharedArrayBuffer(CONTROL.length * 4));

  constructor(order: Omit<Order, 'control'>) {
    const workerData: Order = { ...order, control: this.control };
    this.worker = new Worker(path.join(__dirname, 'copy-on-write-worker.js'), { workerData });
    this.worker.unref();
    Atomics.wait(this.control, CONTROL.tid, 0);
  }

  get tid(): number {
    return this.control[CONTROL.tid]!;
  }

  /** The program goes on until it comes. */
  event(name: 'error' | 'exit'): Promise<unknown[]> {
    this.worker.ref();
    return once(this.worker, name);
  }

  get done(): number {
    return Atomics.load(this.control, CONTROL.done);
  }

  go(): void {
    Atomics.add(this.control, CONTROL.go, 1);
    Atomics.notify(this.control, CONTROL.go);
  }

  untilDone(count: number): void {
    until(() => this.done >= count);
  }

  /** Starts a write that must wait, and returns when it does. */
  goAndWait(resolver: string): void {
    if (resolver === 'loop') {
      this.go();
      untilAsleepInFault(this.tid);
      return;
    }
    testing().closeBarrier('sigbus-before-lookup');
    this.go();
    untilSomebodyWaitsAt('sigbus-before-lookup');
    testing().openBarrier('sigbus-before-lookup');
    until(() => testing().waitingAt('sigbus-before-lookup') === 0);
  }
}
