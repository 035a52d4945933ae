// Ways for a process to end of which no exit listener of ours hears, while threads sleep in faults whose
// handler answers nothing and whose deadline is far away. Each function runs in a process of its own
// (test 40).

import assert from 'node:assert/strict';
import { randomFill } from 'node:crypto';
import { once } from 'node:events';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { DirtyTracker, Region, Snapshot, SnapshotFile, Userfaultfd } from '../../lib/index.js';
import { testing, untilAsleepInFault } from '../support/testing.js';
import { EXIT_CODE, endings } from './ending.js';
import { ANSWER, SERVER, type ServerOrder } from './ending-server.js';
import {
  ready,
  sharedMemory,
  Toucher,
  until,
  untilSomebodySleeps,
  userfaultfdDescriptors,
} from './loop-support.js';

const PAGE = 4096;

// Why nothing of ours is heard

const silences: Record<string, () => void> = {
  /** This thread only imports the package: the addon is loaded by a Worker. */
  imported: () => undefined,
  exits() {
    process.on('exit', () => process.exit(EXIT_CODE));
    testing();
  },
  throws() {
    process.on('exit', () => {
      throw new Error('a listener that throws');
    });
    testing();
  },
  removed() {
    testing();
    process.removeAllListeners('exit');
  },
};

// Sleepers

function startServer(memory: WebAssembly.Memory, order: Partial<ServerOrder> = {}): Int32Array {
  const control = new Int32Array(new SharedArrayBuffer(4 * SERVER.length));
  const workerData: ServerOrder = { memory, answers: 'never', control, ...order };
  new Worker(path.join(__dirname, 'ending-server.js'), { workerData }).unref();
  Atomics.wait(control, SERVER.registered, 0);
  return control;
}

let held: unknown;

const sleepers: Record<string, () => void> = {
  /** Two Workers in memory that a third one serves: Node.js waits for one of them first, in any order. */
  workers() {
    const memory = sharedMemory(1);
    const bytes = new Uint8Array(memory.buffer);
    const before = new Toucher(bytes);
    startServer(memory);
    const after = new Toucher(bytes, { offset: PAGE });
    for (const toucher of [before, after]) {
      toucher.go();
      untilAsleepInFault(toucher.tid);
    }
  },
  /** A thread of libuv's pool in memory that this thread serves. */
  pool() {
    const region = Region.allocate({ bytes: 1 });
    const uffd = Userfaultfd.open();
    uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 2 ** 31 - 1 });
    const events = uffd.events();
    held = [uffd, events, events.next()];
    randomFill(region.bytes, () => process.exit(99));
    untilSomebodySleeps();
  },
};

export function end(silence: string, sleeper: string, ending: string): void {
  silences[silence]!();
  sleepers[sleeper]!();
  assert.equal(held === undefined, sleeper === 'workers');
  ready();
  endings[ending]!();
}

/** Node.js waits for what the pool does for this thread before it cleans anything up. */
export function poolAtTheEnd(): void {
  testing();
  process.removeAllListeners('exit');
  const region = Region.allocate({ bytes: 1 });
  const uffd = Userfaultfd.open().unref();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 2 ** 31 - 1 });
  const events = uffd.events();
  held = [uffd, events, events.next()];
  process.on('exit', () => {
    randomFill(region.bytes, () => process.exit(99));
    untilSomebodySleeps();
    ready();
  });
  process.exitCode = EXIT_CODE;
}

/** The same of a Worker, in a process that goes on. */
export async function poolOwnerEnds(how: string): Promise<void> {
  const worker = new Worker(path.join(__dirname, 'ending-pool-owner.js'));
  await once(worker, 'message');
  untilSomebodySleeps();
  ready();
  const exited = once(worker, 'exit');
  if (how === 'terminate') void worker.terminate();
  else worker.postMessage(how);
  await exited;
  assert.deepEqual(userfaultfdDescriptors(), []);
}

/** A Worker whose userfaultfd is closed under it opens the next, while the process is still ending. */
export function reopen(): void {
  testing().disableNet('watchdog');
  const memory = sharedMemory(1);
  const bytes = new Uint8Array(memory.buffer);
  const before = new Toucher(bytes);
  const control = startServer(memory);
  const after = new Toucher(bytes, { offset: PAGE });
  process.on('exit', () => {
    Atomics.wait(control, SERVER.refused, 0);
    for (const toucher of [before, after]) {
      toucher.go();
      until(() => toucher.finishedRound === 1);
    }
  });
  ready();
  process.exit(EXIT_CODE);
}

/** What can be asked for while the process ends, and what comes of it. */
export async function openAtTheEnd(directory: string): Promise<void> {
  const region = Region.allocate({ bytes: 4 * PAGE });
  region.bytes.fill(1);
  const name = path.join(directory, 'snapshot');
  using snapshot = Snapshot.take(region);
  await snapshot.save(name);
  const file = await SnapshotFile.open(name);
  const old = Userfaultfd.open();
  const other = Region.allocate({ bytes: PAGE });
  const closed = { code: 'ERR_UFFD_CLOSED' };
  process.on('exit', () => {
    assert.throws(() => Userfaultfd.open(), closed);
    assert.throws(() => old.register(other, 'missing'), closed);
    assert.throws(() => new DirtyTracker(other, { engine: 'wp-sync' }), closed);
    for (const resolver of ['loop', 'in-thread'] as const) {
      assert.throws(() => Snapshot.take(other, { mode: 'copy-on-write', resolver }), closed);
      assert.throws(
        () => file.restore(Region.allocate({ bytes: 4 * PAGE }), { lazy: true, resolver }),
        closed,
      );
    }
    // What nobody can wait for goes on working.
    using tracker = new DirtyTracker(other, { engine: 'wp-async' });
    other.bytes[0] = 1;
    assert.equal(tracker.collect().pageCount, 1);
  });
  ready();
}

/** The main thread waits for a thread of native code, which is no end. */
export function joinOwnThread(): void {
  testing();
  const memory = sharedMemory(1);
  startServer(memory, { answers: 'late', lateMs: 1500 });
  const region = Region.from(memory);
  for (const page of [0, 1]) {
    assert.equal(testing().readInThread(region.bytes.subarray(page * PAGE, (page + 1) * PAGE)), ANSWER);
  }
  Userfaultfd.open().close();
  ready();
  process.exit(0);
}
