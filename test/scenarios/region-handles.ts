// Regions in several threads: Region.handle, Region.attach, and shared buffers.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { DirtyTracker, Region, Userfaultfd, type RegionHandle } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { KINDS, withOptions } from './backing-kinds.js';
import type { Order } from './region-worker.js';

const HANDLE = { name: 'UffdError', code: 'ERR_UFFD_HANDLE' };

/** A Worker that does what it is told with the regions it attached. */
export class Helper {
  readonly #worker = new Worker(path.join(__dirname, 'region-worker.js'));

  async tell(order: Order): Promise<unknown> {
    this.#worker.postMessage(order);
    const [answer] = (await once(this.#worker, 'message')) as [{ result?: unknown; error?: Error }];
    if (answer.error !== undefined) throw answer.error;
    return answer.result;
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}

export async function bothSeeTheBytes(name: string, shared: string): Promise<void> {
  const worker = new Helper();
  await withOptions(name, 8, shared === 'shared', async (options) => {
    const region = Region.allocate(options);
    const { pageSize, handle } = region;
    region.bytes[1] = 5;
    assert.deepEqual(await worker.tell({ do: 'attach', handle }), {
      byteLength: region.byteLength,
      pageSize,
      backing: KINDS[name]!.options.backing,
      sharedBuffer: shared === 'shared',
    });
    assert.equal(await worker.tell({ do: 'read', at: 1 }), 5);
    await worker.tell({ do: 'write', at: pageSize + 2, byte: 6 });
    assert.equal(region.bytes[pageSize + 2], 6);

    // Here it is the same mapping: what the Worker writes and discards is tracked.
    using tracker = new DirtyTracker(region);
    await worker.tell({ do: 'write', at: 3 * pageSize, byte: 1 });
    await worker.tell({ do: 'discard', offset: pageSize, length: pageSize });
    assert.deepEqual(
      [...tracker.collect()],
      [1, 3].map((page) => ({ offset: page * pageSize, length: pageSize })),
    );
    assert.equal(region.bytes[pageSize + 2], KINDS[name]!.fresh);
    tracker.close();

    // The first is closed: its views are gone, the memory is not.
    region.bytes[7] = 7;
    const { bytes } = region;
    region.close();
    if (shared === 'private') assert.equal(bytes.byteLength, 0);
    assert.equal(await worker.tell({ do: 'read', at: 7 }), 7);
    const again = Region.attach(handle);
    assert.equal(again.bytes[7], 7);
    again.close();

    // The last is closed: now the handle is stale, here and there.
    await worker.tell({ do: 'close' });
    assert.throws(() => Region.attach(handle), HANDLE);
    await assert.rejects(worker.tell({ do: 'attach', handle }), /ERR_UFFD_HANDLE|names no open region/);
  });
  await worker.end();
}

/** The Worker ends without closing anything. */
export async function survivesTheWorker(name: string, shared: string): Promise<void> {
  await withOptions(name, 4, shared === 'shared', async (options) => {
    const region = Region.allocate(options);
    for (let round = 0; round < 3; round++) {
      const worker = new Helper();
      await worker.tell({ do: 'attach', handle: region.handle });
      await worker.tell({ do: 'track' });
      await worker.tell({ do: 'write', at: round, byte: 10 + round });
      await worker.end();
    }
    assert.deepEqual([...region.bytes.subarray(0, 3)], [10, 11, 12]);
    region.bytes.fill(1);
    const { handle } = region;
    region.close();
    assert.throws(() => Region.attach(handle), HANDLE);
  });
}

/** The thread that made it ends first. */
export async function survivesItsMaker(name: string, shared: string): Promise<void> {
  await withOptions(name, 4, shared === 'shared', async (options) => {
    const worker = new Helper();
    const handle = (await worker.tell({ do: 'allocate', options })) as RegionHandle;
    await worker.tell({ do: 'write', at: 3, byte: 33 });
    const region = Region.attach(handle);
    await worker.end();
    assert.equal(region.bytes[3], 33);
    region.bytes.fill(4);
    const second = Region.attach(region.handle);
    region.close();
    assert.ok(second.bytes.every((byte) => byte === 4));
    second.close();
    assert.throws(() => Region.attach(handle), HANDLE);
  });
}

/** In one thread, closed in every order, many times, with the collector at work. */
export async function manyLives(): Promise<void> {
  const mapped = testing().mappedBytes();
  for (let round = 0; round < 100; round++) {
    const region = Region.allocate({ bytes: 64 * 1024, backing: round % 2 === 0 ? 'memfd' : 'anonymous' });
    const { handle } = region;
    const others = Array.from({ length: 5 }, () => Region.attach(handle));
    region.bytes.fill(round);
    // One is closed, one forgotten, the rest closed in an order of its own.
    const [first, ...rest] = [region, ...others].sort(() => (round % 3) - 1);
    first!.close();
    rest.shift();
    if (round % 10 === 0) {
      gc!();
      await turn();
    }
    for (const each of rest) {
      assert.ok(each.bytes.every((byte) => byte === round));
      each.close();
      each.close();
    }
    if (round % 2 === 1) Region.allocate({ bytes: 4096, shared: true }).bytes.fill(1);
  }
  for (let i = 0; i < 300 && testing().mappedBytes() > mapped + 10 * 65_536; i++) {
    gc!();
    await turn();
  }
  assert.ok(
    testing().mappedBytes() <= mapped + 10 * 65_536,
    `${testing().mappedBytes() - mapped} bytes stay`,
  );
}

/** A region that was forgotten here, not closed: its memory stays as long as the other has it. */
export async function forgottenHere(shared: string): Promise<void> {
  const worker = new Helper();
  const makeAndForget = async (): Promise<void> => {
    const region = Region.allocate({ bytes: 1 << 20, shared: shared === 'shared' });
    region.bytes.fill(5);
    await worker.tell({ do: 'attach', handle: region.handle });
  };
  await makeAndForget();
  for (let i = 0; i < 20; i++) {
    gc!();
    await turn();
  }
  assert.equal(await worker.tell({ do: 'read', at: 99_999 }), 5);
  await worker.tell({ do: 'write', at: 99_999, byte: 6 });
  assert.equal(await worker.tell({ do: 'read', at: 99_999 }), 6);
  await worker.end();
}

/** Views and buffers of a shared region outlive its close, in every thread. */
export async function sharedBufferGoesOn(): Promise<void> {
  const worker = new Helper();
  const region = Region.allocate({ bytes: 4096, backing: 'memfd', shared: true });
  const alias = region.alias();
  const words = new Int32Array(region.buffer);
  const counting = worker.tell({ do: 'count', buffer: region.buffer as SharedArrayBuffer, times: 10_000 });
  for (let i = 0; i < 10_000; i++) Atomics.add(words, 0, 1);
  await counting;
  assert.equal(Atomics.load(words, 0), 20_000);
  assert.equal(new Int32Array(alias.buffer)[0], 20_000);

  // Wakes across threads.
  const waiting = worker.tell({ do: 'wait', buffer: region.buffer as SharedArrayBuffer, index: 1 });
  while (Atomics.notify(words, 1) === 0) await turn();
  assert.equal(await waiting, 'ok');

  region.close();
  assert.throws(() => region.bytes, { code: 'ERR_UFFD_CLOSED' });
  words[2] = 9;
  assert.equal(new Int32Array(alias.buffer)[2], 9);
  await worker.end();
}

/** Faults of the main thread in memory that a Worker attached and registered. */
export async function workerServesFaults(shared: string): Promise<void> {
  for (const backing of ['anonymous', 'memfd'] as const) {
    const worker = new Helper();
    const region = Region.allocate({ bytes: 16 * 4096, backing, shared: shared === 'shared' });
    await worker.tell({ do: 'attach', handle: region.handle });
    await worker.tell({ do: 'register', mode: 'missing', fill: [3, 77] });
    assert.equal(region.bytes[3 * 4096 + 5], 77, 'filled by the Worker');
    region.bytes[5 * 4096] = 1;
    assert.equal(region.bytes[6 * 4096], 0, 'a missing page is served by its loop');
    using uffd = Userfaultfd.open();
    assert.throws(() => uffd.register(region, 'missing'), { code: 'ERR_UFFD_BUSY' });

    // Its registration ends with it, and nothing waits.
    const touched = region.bytes;
    await worker.end();
    touched.fill(9);
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
    touched.fill(8);
    assert.equal(uffd.armedPages(region), 0);
    region.close();
  }
}

export function refusesHandles(): void {
  const region = Region.allocate({ bytes: 4096 });
  const shared = Region.allocate({ bytes: 4096, shared: true });
  const { handle } = region;
  const forged: RegionHandle[] = [
    { ...handle, key: '' },
    { ...handle, key: '0'.repeat(32) },
    { ...handle, key: handle.key.toUpperCase() + '\0' },
    { ...handle, key: 'x'.repeat(1_000_000) },
    { ...handle, buffer: new SharedArrayBuffer(4096) },
    { ...shared.handle, buffer: new SharedArrayBuffer(65_536) },
    { ...shared.handle, buffer: Region.allocate({ bytes: 4096, shared: true }).buffer as SharedArrayBuffer },
    { ...handle, buffer: shared.handle.buffer! },
    { type: 'userfaultfd.Region', key: shared.handle.key },
  ];
  for (const each of forged)
    assert.throws(() => Region.attach(each), HANDLE, JSON.stringify(each).slice(0, 200));

  // The real ones go on.
  for (const each of [region, shared]) {
    using attached = Region.attach(structuredClone(each.handle));
    assert.equal(attached.byteLength, each.byteLength);
  }
  assert.equal(Region.attach(JSON.parse(JSON.stringify(handle)) as RegionHandle).byteLength, 4096);

  // Of another process.
  const script = `const { Region } = require(${JSON.stringify(path.join(__dirname, '../../lib/index.js'))});
    try { Region.attach(JSON.parse(process.argv[1])); console.log('attached'); } catch (e) { console.log(e.code); }`;
  const child = spawnSync(process.execPath, ['-e', script, JSON.stringify(handle)], { encoding: 'utf8' });
  assert.equal(child.stdout.trim(), 'ERR_UFFD_HANDLE', child.stderr);
}
