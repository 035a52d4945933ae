// Digests of pages by the thread of JavaScript and by libuv's pool, which may be late, or busy with something else.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Region, Snapshot } from '../../lib/index.js';
import { PageDigests } from '../../lib/page-digest.js';
import { digestsOf } from '../support/snapshot-files.js';
import { testing } from '../support/testing.js';
import { PAGE } from './dirty-support.js';

const HERE = 'pool makes a digest';

function randomPages(count: number): Buffer {
  return randomFillSync(Buffer.alloc(count * PAGE));
}

/** While the pool's one thread waits for a FIFO. */
async function withBusyPool(action: () => Promise<void>): Promise<void> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'uffd-digests-'));
  const fifo = path.join(directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  try {
    const opened = fs.promises.open(fifo, 'r');
    await action();
    fs.closeSync(fs.openSync(fifo, 'w'));
    await (await opened).close();
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

/** The pool has one in its hands that is waited for; the event loop goes on meanwhile. */
export async function poolIsLate(): Promise<void> {
  const pages = randomPages(64);
  testing().closeBarrier(HERE);
  const digests = new PageDigests(pages, PAGE);
  while (testing().waitingAt(HERE) === 0) await nextTurn();
  let made: Buffer | undefined;
  const all = digests.made().then((bytes) => (made = bytes));
  const again = digests.made();
  for (let turn = 0; turn < 100; turn++) await nextTurn();
  assert.equal(made, undefined);
  testing().openBarrier(HERE);
  assert.deepEqual(await all, digestsOf(pages));
  assert.deepEqual(await again, digestsOf(pages), 'again');
  assert.deepEqual(await digests.made(), digestsOf(pages), 'and afterwards');
}

/** Everything was made before anybody asked. */
export async function poolIsFirst(): Promise<void> {
  const pages = randomPages(1000);
  testing().closeBarrier(HERE);
  const digests = new PageDigests(pages, PAGE);
  while (testing().waitingAt(HERE) === 0) await nextTurn();
  testing().openBarrier(HERE);
  // The pool has one thread, which does this when it has made them.
  await fs.promises.stat('/');
  const expected = digestsOf(pages);
  pages.fill(0);
  assert.deepEqual(await digests.made(), expected);
}

export async function poolIsBusy(): Promise<void> {
  await withBusyPool(async () => {
    for (const count of [0, 1, 15, 16, 17, 500]) {
      const pages = randomPages(count);
      assert.deepEqual(await new PageDigests(pages, PAGE).made(), digestsOf(pages), `${count} pages`);
    }
    using region = Region.allocate({ bytes: 16 << 20 });
    randomFillSync(region.bytes);
    using snapshot = Snapshot.take(region);
    let bytes = 0;
    for await (const chunk of snapshot.stream()) bytes += (chunk as Buffer).length;
    assert.ok(bytes > region.byteLength);
  });
}

/** A Worker that has what it wanted ends, whatever the pool does for others. */
export async function workerEndsWhilePoolIsBusy(): Promise<void> {
  await withBusyPool(async () => {
    const worker = new Worker(__filename, { workerData: 'made' });
    assert.deepEqual(await once(worker, 'exit'), [0]);
  });
}

/** A pool that cannot start its threads ends the process. */
export async function poolCannotStart(): Promise<void> {
  // The limit is not for root.
  if (process.getuid!() === 0) process.setuid!(65_534);
  execFileSync('prlimit', ['--pid', String(process.pid), '--nproc=1:']);
  const pages = randomPages(100);
  assert.deepEqual(await new PageDigests(pages, PAGE).made(), digestsOf(pages));
}

/** The Worker ends while the pool has its pages: they stay until it is done with them. */
export async function workerEnds(): Promise<void> {
  testing().closeBarrier(HERE);
  const worker = new Worker(__filename, { workerData: 'digests' });
  await once(worker, 'message');
  while (testing().waitingAt(HERE) === 0) await nextTurn();
  const ended = worker.terminate();
  for (let turn = 0; turn < 100; turn++) await nextTurn();
  testing().openBarrier(HERE);
  await ended;
  const pages = randomPages(100);
  assert.deepEqual(await new PageDigests(pages, PAGE).made(), digestsOf(pages));
}

/** Nobody wants them any more. */
export async function forgotten(): Promise<void> {
  testing().closeBarrier(HERE);
  (() => {
    new PageDigests(randomPages(1000), PAGE);
  })();
  while (testing().waitingAt(HERE) === 0) await nextTurn();
  for (let i = 0; i < 5; i++) {
    global.gc!();
    await nextTurn();
  }
  testing().openBarrier(HERE);
  const pages = randomPages(100);
  assert.deepEqual(await new PageDigests(pages, PAGE).made(), digestsOf(pages));
}

if (!isMainThread && workerData === 'digests') {
  const digests = new PageDigests(randomPages(1000), PAGE);
  parentPort!.postMessage('begun');
  setInterval(() => digests, 1000);
}

if (!isMainThread && workerData === 'made') {
  const pages = randomPages(1000);
  void new PageDigests(pages, PAGE).made().then((made) => {
    assert.deepEqual(made, digestsOf(pages));
  });
}
