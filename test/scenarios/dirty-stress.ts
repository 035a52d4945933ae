// A thread that never stops writing, and a copy that must end up equal.

import assert from 'node:assert/strict';
import { Worker } from 'node:worker_threads';
import { DirtyTracker, type DirtyEngine, type DirtyPages } from '../../lib/index.js';

const PAGES = 512;
const ROUNDS = 100; // in which something was written

/** Counts up words all over the memory until it is told to stop. It loads no addon. */
const WRITER = `
  const { workerData } = require('node:worker_threads');
  const words = new Uint32Array(workerData.memory.buffer);
  const stop = new Int32Array(workerData.stop);
  let state = 1;
  Atomics.store(stop, 1, 1);
  Atomics.notify(stop, 1);
  while (Atomics.load(stop, 0) === 0) {
    for (let i = 0; i < 1000; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      words[state % words.length]++;
    }
  }`;

/** Collect first, then copy; every tenth time the sink fails and the pages go back (B8). */
export async function copyFollowsMemory(engine: string): Promise<void> {
  const memory = new WebAssembly.Memory({ initial: PAGES / 16, maximum: PAGES / 16, shared: true });
  const bytes = Buffer.from(memory.buffer);
  const copy = Buffer.alloc(bytes.length);
  const stop = new Int32Array(new SharedArrayBuffer(8));
  using tracker = new DirtyTracker(memory, { engine: engine as DirtyEngine });
  const worker = new Worker(WRITER, { eval: true, workerData: { memory, stop: stop.buffer } });
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  await new Promise((resolve) => worker.once('online', resolve));
  Atomics.wait(stop, 1, 0, 10_000);

  const sink = (dirty: DirtyPages, failAt: number): void => {
    let sent = 0;
    for (const { offset, length } of dirty) {
      for (let at = offset; at < offset + length; at += dirty.pageSize) {
        if (sent++ === failAt) throw new Error('the sink failed');
        bytes.copy(copy, at, at, at + dirty.pageSize);
      }
    }
  };
  let failed = 0;
  let pages = 0;
  for (let round = 0; round < ROUNDS;) {
    const dirty = tracker.collect();
    if (dirty.isEmpty) continue;
    round++;
    pages += dirty.pageCount;
    try {
      sink(dirty, round % 10 === 0 ? dirty.pageCount >> 1 : -1);
    } catch {
      failed++;
      tracker.markDirty(dirty);
    }
  }
  Atomics.store(stop, 0, 1);
  await ended;
  sink(tracker.collect(), -1);
  assert.ok(Buffer.compare(bytes, copy) === 0, 'the copy equals the memory');
  assert.ok(pages > 0 && tracker.collect().isEmpty);
  console.log(JSON.stringify({ failed, pages }));
}
