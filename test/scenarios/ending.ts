// Ways for a process and for a Worker to end while a thread sleeps in a fault that the loop, held at a
// barrier, does not end. Each function runs in a process of its own (test 40).

import assert from 'node:assert/strict';
import { randomFill } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { Region, Userfaultfd } from '../../lib/index.js';
import { testing, untilAsleepInFault, untilSomebodyWaitsAt } from '../support/testing.js';
import type { Net, OwnerOrder } from './ending-owner.js';
import {
  collectUntil,
  eventually,
  ready,
  sharedMemory,
  sharedRegion,
  Toucher,
  until,
  untilSomebodySleeps,
  userfaultfdDescriptors,
} from './loop-support.js';

// The clean-up hook stays: the one of the sleeping thread cannot run, and that of the main thread does
// not run on process.exit(), or comes after whoever keeps the event loop busy.
const NETS: readonly Net[] = ['exit', 'watchdog'];
export const EXIT_CODE = 7;

function disabledNets(only: string | undefined): Net[] {
  return only === undefined ? [] : NETS.filter((net) => net !== only);
}

// Sleepers

function armAndHold(region: Region): Userfaultfd {
  testing().closeBarrier('loop-before-poll');
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  untilSomebodyWaitsAt('loop-before-poll');
  return uffd;
}

const sleepers: Record<string, () => unknown> = {
  worker() {
    const region = sharedRegion(1);
    const uffd = armAndHold(region);
    const toucher = new Toucher(region.bytes);
    toucher.go();
    untilAsleepInFault(toucher.tid);
    return uffd;
  },
  read() {
    const region = Region.allocate({ bytes: 1 });
    const uffd = armAndHold(region);
    const file = fs.openSync(process.execPath, 'r');
    fs.read(file, region.bytes, 0, 100, 0, (error) => {
      if (error !== null) process.exit(99);
    });
    untilSomebodySleeps();
    return uffd;
  },
  random() {
    const region = Region.allocate({ bytes: 1 });
    const uffd = armAndHold(region);
    randomFill(region.bytes, (error) => {
      if (error !== null) process.exit(99);
    });
    untilSomebodySleeps();
    return uffd;
  },
};

// Endings of a process

export const endings: Record<string, () => void> = {
  exit() {
    process.exit(EXIT_CODE);
  },
  reallyExit() {
    (process as unknown as { reallyExit(code: number): never }).reallyExit(EXIT_CODE);
  },
  natural() {
    process.exitCode = EXIT_CODE;
  },
  throw() {
    setImmediate(() => {
      throw new Error('thrown and not caught');
    });
  },
  handler() {
    process.on('SIGTERM', () => process.exit(EXIT_CODE));
    process.kill(process.pid, 'SIGTERM');
    setTimeout(() => undefined, 60_000);
  },
  signal() {
    process.kill(process.pid, 'SIGTERM');
    setTimeout(() => undefined, 60_000);
  },
  kill() {
    process.kill(process.pid, 'SIGKILL');
  },
  abort() {
    process.abort();
  },
};

let held: unknown;

/** `only` leaves one net on. */
export function end(sleeper: string, ending: string, only?: string): void {
  for (const net of disabledNets(only)) testing().disableNet(net);
  held = sleepers[sleeper]!();
  assert.ok(held instanceof Userfaultfd);
  ready();
  endings[ending]!();
}

/** A thread waits for a source that never answers. */
export function endsWithStuckSource(ending: string, fallback: 'poison' | 'zeropage', only?: string): void {
  for (const net of disabledNets(only)) testing().disableNet(net);
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open({ features: ['EVENT_REMOVE', 'POISON'] });
  uffd.register(region, 'missing', { source: { file: process.execPath }, fallback });
  testing().closeBarrier('source-read');
  const toucher = new Toucher(region.bytes, { access: 'read' });
  toucher.go();
  untilSomebodyWaitsAt('source-read');
  held = uffd;
  ready();
  endings[ending]!();
}

// Workers that own what is slept on

function startOwner(order: Partial<OwnerOrder>): {
  worker: Worker;
  tid: () => number;
  memory: WebAssembly.Memory;
} {
  const memory = sharedMemory(1);
  const control = new Int32Array(new SharedArrayBuffer(8));
  const workerData: OwnerOrder = { memory, disabledNets: [], hold: true, then: 'sleep', control, ...order };
  const worker = new Worker(path.join(__dirname, 'ending-owner.js'), { workerData });
  Atomics.wait(control, 1, 0);
  return { worker, tid: () => control[0]!, memory };
}

/** A Worker sleeps on the descriptor it owns; this thread has not loaded the addon. */
export async function terminateSleepingOwner(only?: string): Promise<void> {
  const { worker, tid } = startOwner({ disabledNets: disabledNets(only) });
  untilAsleepInFault(tid());
  ready();
  assert.equal(await worker.terminate(), 1);
}

export function exitWithSleepingOwner(only?: string): void {
  const { tid } = startOwner({ disabledNets: disabledNets(only) });
  untilAsleepInFault(tid());
  ready();
  process.exit(EXIT_CODE);
}

/** The same, when this thread has loaded the addon too and so has an exit listener. */
export function exitWithListenerAndSleepingOwner(only?: string): void {
  for (const net of disabledNets(only)) testing().disableNet(net);
  exitWithSleepingOwner(only);
}

/** The owner ends in one of its ways while another thread sleeps on its descriptor. */
export async function ownerEnds(how: string, only?: string): Promise<void> {
  const { worker, memory } = startOwner({ disabledNets: disabledNets(only), then: 'wait' });
  const sleeper = new Toucher(new Uint8Array(memory.buffer));
  sleeper.go();
  untilAsleepInFault(sleeper.tid);
  ready();
  const exited = once(worker, 'exit');
  if (how === 'terminate') void worker.terminate();
  else worker.postMessage(how);
  await exited;
  until(() => sleeper.finishedRound === 1);
  assert.deepEqual(userfaultfdDescriptors(), []);
}

/** The addon was loaded by a Worker only, and is used by native threads when that Worker ends (C1). */
export async function loadedInWorkerOnly(): Promise<void> {
  const { worker } = startOwner({ hold: false, then: 'return' });
  assert.deepEqual(await once(worker, 'exit'), [0]);
  await new Promise((resolve) => setTimeout(resolve, 500));
  // The watchdog it left behind, and a second Worker on the same code, still work.
  const second = startOwner({ hold: true, then: 'sleep' });
  untilAsleepInFault(second.tid());
  assert.deepEqual(await once(second.worker, 'exit'), [0]);
  ready();
}

// EVENT_UNMAP and EVENT_REMOVE, with nobody who reads (A6)

function armWithEvents(hold: boolean): { region: Region; uffd: Userfaultfd } {
  if (hold) testing().closeBarrier('loop-before-poll');
  const region = Region.allocate({ bytes: 1 << 20 });
  region.bytes.fill(1);
  const uffd = Userfaultfd.open({ features: ['EVENT_REMOVE', 'EVENT_UNMAP'] });
  uffd.register(region, ['missing', 'write-protect']);
  uffd.writeProtect(region);
  if (hold) untilSomebodyWaitsAt('loop-before-poll');
  return { region, uffd };
}

export function naturalEndWithEvents(hold: string): void {
  testing().disableNet('watchdog');
  held = armWithEvents(hold === 'held');
  ready();
}

export async function workerEndWithEvents(hold: string): Promise<void> {
  const { worker } = startOwner({
    hold: hold === 'held',
    then: 'return',
    features: ['EVENT_REMOVE', 'EVENT_UNMAP'],
    disabledNets: ['watchdog', 'exit'],
  });
  assert.deepEqual(await once(worker, 'exit'), [0]);
  await eventually(() => userfaultfdDescriptors().length === 0);
  ready();
}

export async function collectedWithEvents(hold: string): Promise<void> {
  testing().disableNet('watchdog');
  const gone = ((): (() => boolean) => {
    const { region, uffd } = armWithEvents(hold === 'held');
    const weak = [new WeakRef(region), new WeakRef(uffd)];
    return () => weak.every((ref) => ref.deref() === undefined);
  })();
  await collectUntil(gone);
  await collectUntil(() => userfaultfdDescriptors().length === 0);
  ready();
}

/** The region goes first; its userfaultfd is still open and registered elsewhere. */
export async function regionCollectedWithEvents(): Promise<void> {
  testing().disableNet('watchdog');
  const uffd = Userfaultfd.open({ features: ['EVENT_REMOVE', 'EVENT_UNMAP'] });
  for (let i = 0; i < 20; i++) {
    const region = Region.allocate({ bytes: 1 << 20 });
    region.bytes.fill(1);
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
    uffd.unregister(region);
    region.close();
    gc!();
    await new Promise((resolve) => setImmediate(resolve));
  }
  uffd.close();
  ready();
}
