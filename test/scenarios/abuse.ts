// Scenarios of test/80-abuse.test.ts.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { randomFill } from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  capabilities,
  DirtyTracker,
  Region,
  Snapshot,
  Userfaultfd,
  type UffdError,
} from '../../lib/index.js';
import { testing } from '../support/testing.js';

const PACKAGE = path.join(__dirname, '..', '..', 'lib', 'index.js');

function worker(code: string, workerData?: unknown): Worker {
  const head = `const { parentPort, workerData } = require('node:worker_threads'); const U = require(${JSON.stringify(PACKAGE)});`;
  return new Worker(head + code, { eval: true, workerData });
}

export async function exitInIterator(): Promise<void> {
  for (let round = 0; round < 10; round++) {
    const ended = once(
      worker(`
        const region = U.Region.allocate({ bytes: 1 << 20 }), uffd = U.Userfaultfd.open();
        uffd.register(region, 'write-protect');
        (async () => { for await (const event of uffd) process.exit(7); })();
        uffd.writeProtect(region);
        region.bytes[0] = 1;`),
      'exit',
    );
    assert.deepEqual(await ended, [7]);
  }
}

const CALLS: Record<string, string> = {
  state: 'const u = U.Userfaultfd.open(); go(); for (;;) u.missedEvents;',
  collect: 'const t = new U.DirtyTracker(U.Region.allocate({ bytes: 1 << 20 })); go(); for (;;) t.collect();',
  open: 'go(); for (;;) U.Userfaultfd.open().close();',
  restore:
    'const r = U.Region.allocate({ bytes: 1 << 16 }), s = U.Snapshot.take(r); go(); for (;;) { r.bytes[0]++; s.restore(); s.diff(); }',
  capabilities: 'go(); for (;;) U.capabilities();',
  storm: `const r = U.Region.allocate({ bytes: 1 << 16 }), u = U.Userfaultfd.open(); u.register(r, 'write-protect');
    (async () => { for await (const event of u); })(); go();
    setInterval(() => { u.writeProtect(r); for (let i = 0; i < r.byteLength; i += 4096) r.bytes[i] = 1; }, 1);`,
};

export async function terminateInCall(call: string): Promise<void> {
  for (let round = 0; round < 25; round++) {
    const ending = worker(`const go = () => parentPort.postMessage('going'); ${CALLS[call]!}`);
    await once(ending, 'message');
    // Any moment of the loop will do; the rounds differ by what the scheduler makes of them.
    await delay(round % 8);
    await ending.terminate();
  }
  assert.ok(capabilities().engines.some((engine) => engine.works));
}

export function closeInGetter(victim: string): void {
  let hook = (): void => undefined;
  class Evil extends Uint8Array {
    override get byteLength(): number {
      hook();
      return super.byteLength;
    }
    override get buffer(): ArrayBuffer {
      hook();
      return super.buffer;
    }
  }
  const region = Region.allocate({ bytes: 65_536 });
  const evil = new Evil(new ArrayBuffer(65_536));
  const tracker = new DirtyTracker([region, evil]);
  const snapshot = Snapshot.take([region, evil]);
  const calls: Record<string, { close: () => void; call: () => unknown }> = {
    collect: { close: () => tracker.close(), call: () => tracker.collect() },
    peek: { close: () => tracker.close(), call: () => tracker.peek() },
    restore: { close: () => snapshot.close(), call: () => snapshot.restore() },
    diff: { close: () => snapshot.close(), call: () => snapshot.diff() },
    closeRegion: { close: () => region.close(), call: () => tracker.collect() },
  };
  const { close, call } = calls[victim]!;
  hook = close;
  try {
    call();
  } catch (error) {
    assert.equal((error as UffdError).code, 'ERR_UFFD_CLOSED');
  }
}

export async function closeUnderRandomFill(): Promise<void> {
  const region = Region.allocate({ bytes: 128 << 20 });
  const filled = new Promise((resolve) => randomFill(region.bytes, resolve));
  await delay(10);
  region.close();
  await filled;
}

export async function closeUnderRead(): Promise<void> {
  const fifo = path.join(fs.mkdtempSync(path.join(tmpdir(), 'uffd-')), 'fifo');
  assert.equal(spawnSync('mkfifo', [fifo]).status, 0);
  const file = fs.openSync(fifo, fs.constants.O_RDWR);
  const region = Region.allocate({ bytes: 4096 });
  const read = new Promise<void>((resolve) => fs.read(file, region.bytes, 0, 4096, null, () => resolve()));
  region.close();
  const after = Array.from({ length: 50 }, () => Region.allocate({ bytes: 4096 }));
  fs.writeSync(file, Buffer.alloc(4096, 0xaa));
  await read;
  for (const each of after) assert.ok(each.bytes.every((byte) => byte === 0));
  fs.closeSync(file);
  fs.rmSync(path.dirname(fifo), { recursive: true });
}

/** Leaves fewer and fewer descriptors: somewhere the fork succeeds and its event finds none. */
export async function forkWithoutDescriptors(): Promise<void> {
  const region = Region.allocate({ bytes: 65_536 });
  testing().inheritOnFork(region.bytes);
  const uffd = Userfaultfd.open({ features: ['EVENT_FORK'] });
  uffd.register(region, 'write-protect');
  const taken: number[] = [];
  try {
    for (;;) taken.push(fs.openSync('/dev/null', 'r'));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EMFILE');
  }
  let children = 0;
  for (let free = 0; free < 12; free++) {
    const child = spawn(process.execPath, ['--version'], { stdio: 'ignore' });
    const code = await new Promise((resolve) => child.on('error', resolve).on('exit', resolve));
    if (code === 0) children++;
    fs.closeSync(taken.pop()!);
  }
  for (const file of taken) fs.closeSync(file);
  let forks = 0;
  setTimeout(() => uffd.close(), 100);
  for await (const event of uffd) if (event.type === 'fork') forks++;
  assert.equal(forks >= children, true, `${forks} forks, ${children} children`);
  console.log(`${forks} forks, ${children} children`);
}

export async function armWithoutPause(): Promise<void> {
  const pages = 1024;
  const memory = new WebAssembly.Memory({ initial: pages / 16, maximum: pages / 16, shared: true });
  const region = Region.from(memory);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  const progress = new Int32Array(new SharedArrayBuffer(4));
  const writer = worker(
    `const bytes = new Uint8Array(workerData.memory.buffer);
     for (let i = 0; i < 20_000; i++) { bytes[(i % ${pages}) * 4096] = i; Atomics.store(workerData.progress, 0, i + 1); }`,
    { memory, progress },
  );
  const state = { ended: false };
  writer.on('exit', () => (state.ended = true));
  while (!state.ended) {
    for (let i = 0; i < 50; i++) uffd.writeProtect(region);
    await delay(0);
  }
  assert.equal(progress[0], 20_000);
}

export function neverAsked(): void {
  const pages = 64;
  const region = Region.allocate({ bytes: pages * 4096 });
  const snapshot = Snapshot.take(region);
  const tracker = new DirtyTracker(region);
  const { bytes } = region;
  const rounds = (count: number): void => {
    for (let i = 0; i < count; i++) {
      for (let page = 0; page < pages; page += 2) bytes[page * 4096] = i;
      tracker.collect();
    }
  };
  rounds(2000);
  gc!();
  const before = process.memoryUsage().rss;
  rounds(100_000);
  gc!();
  const grown = process.memoryUsage().rss - before;
  assert.ok(grown < 24 << 20, `${grown >> 20} MiB more`);
  assert.equal(snapshot.restore().pages, pages / 2);
}

/** The Worker's order of stores never lets both words be 0. */
async function toggled(
  words: Int32Array,
  first: number,
  last: number,
  take: () => Int32Array,
): Promise<void> {
  words[first] = 1;
  const writer = worker(
    `const { words: a, first, last } = workerData;
     parentPort.postMessage('going');
     for (;;) { Atomics.store(a, last, 1); Atomics.store(a, first, 0); Atomics.store(a, first, 1); Atomics.store(a, last, 0); }`,
    { words, first, last },
  );
  await once(writer, 'message');
  let taken = 0;
  for (let round = 0; round < 1500; round++) {
    try {
      const copy = take();
      taken++;
      assert.ok(copy[first] === 1 || copy[last] === 1, `torn in round ${round}, after ${taken} snapshots`);
    } catch (error) {
      if ((error as UffdError).code !== 'ERR_UFFD_SNAPSHOT_TORN') throw error;
    }
  }
  await writer.terminate();
}

export async function toggledEdges(): Promise<void> {
  for (const bytes of [3000, 200_000]) {
    const shared = new SharedArrayBuffer(bytes);
    const words = new Int32Array(shared);
    await toggled(words, 0, words.length - 1, () => {
      using snapshot = Snapshot.take(shared);
      return new Int32Array(snapshot.read().buffer);
    });
  }
}

/** What is the edge of one memory of the snapshot lies in the midst of the other. */
export async function toggledOverlap(): Promise<void> {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const words = new Int32Array(memory.buffer);
  await toggled(words, 1000, 5000, () => {
    using snapshot = Snapshot.take([new Uint8Array(memory.buffer, 8, 80), memory]);
    return new Int32Array(snapshot.read(0, undefined, 1).buffer);
  });
}
