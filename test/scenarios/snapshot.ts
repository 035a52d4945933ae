import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { DirtyTracker, Region, Snapshot, SnapshotHistory, Userfaultfd } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { MEMORIES } from './copy-on-write-kinds.js';
import { PAGE, pagesOf, seeded, touch } from './dirty-support.js';

const MIB = 2 ** 20;

function residentBytes(): number {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
}

function median(times: number[]): number {
  return times.sort((a, b) => a - b)[times.length >> 1]!;
}

function timed(work: () => void): number {
  const started = performance.now();
  work();
  return performance.now() - started;
}

/** restore() and diff() of ten pages in 512 MiB, beside copying and comparing all of it. */
export function costOfTenPages(): void {
  const region = Region.allocate({ bytes: 512 * MIB });
  const copy = Region.allocate({ bytes: 512 * MIB });
  for (let offset = 0; offset < region.byteLength; offset += PAGE) region.bytes[offset] = 1;
  copy.bytes.set(region.bytes);
  using snapshot = Snapshot.take(region);
  const times = { copy: [] as number[], restore: [] as number[], diff: [] as number[] };
  for (let round = 0; round < 9; round++) {
    // Into memory that is resident already: the cheapest copy there is.
    times.copy.push(timed(() => copy.bytes.set(region.bytes)));
    for (let i = 0; i < 10; i++) touch(region.bytes, i * 10_007 + round, 2 + round);
    times.diff.push(timed(() => assert.equal(snapshot.diff().pageCount, 10)));
    times.restore.push(
      timed(() => assert.deepEqual(snapshot.restore(), { pages: 10, bytes: 10 * PAGE, different: 0 })),
    );
  }
  const [copied, restored, compared] = [median(times.copy), median(times.restore), median(times.diff)];
  console.log({ copied, restored, compared });
  assert.ok(restored * 5 < copied, `restore() took ${restored} ms, a full copy ${copied} ms`);
  assert.ok(compared * 5 < copied, `diff() took ${compared} ms, a full copy ${copied} ms`);
}

/** 2 GiB of which a few pages were ever written. */
export function sparse(): void {
  const region = Region.allocate({ bytes: 2048 * MIB });
  const written = [0, 1, 100_000, 524_287];
  for (const page of written) touch(region.bytes, page, 1);
  using warm = Snapshot.take(Region.allocate({ bytes: PAGE }));
  assert.equal(warm.byteLength, PAGE);
  const before = residentBytes();
  using snapshot = Snapshot.take(region);
  const grew = residentBytes() - before;
  assert.ok(grew < 64 * MIB, `take() made ${grew} bytes resident`);
  touch(region.bytes, 7, 1);
  touch(region.bytes, 100_000, 2);
  assert.deepEqual(pagesOf(snapshot.diff()), [7, 100_000]);
  assert.equal(snapshot.restore().pages, 2);
  assert.deepEqual(
    [region.bytes[7 * PAGE], region.bytes[100_000 * PAGE], region.bytes[524_287 * PAGE]],
    [0, 1, 1],
  );
  assert.ok(residentBytes() - before < 64 * MIB);
}

export async function freed(): Promise<void> {
  const region = Region.allocate({ bytes: 64 * MIB });
  region.bytes.fill(1);
  const memory = new WebAssembly.Memory({ initial: 1024 });
  new Uint8Array(memory.buffer).fill(1);
  Snapshot.take(region).close();
  const before = residentBytes();
  for (let round = 0; round < 20; round++) Snapshot.take(region).close();
  assert.ok(residentBytes() - before < 64 * MIB, 'close() frees the copy');
  (() => {
    for (let round = 0; round < 4; round++) assert.equal(Snapshot.take(memory).closed, false);
  })();
  assert.ok(residentBytes() - before > 128 * MIB, 'four copies of 64 MiB');
  for (let round = 0; round < 5; round++) {
    global.gc!();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(residentBytes() - before < 64 * MIB, 'the garbage collector frees the copies');
  using uffd = Userfaultfd.open();
  uffd.register(Region.from(memory), 'write-protect').close();
  using tracker = new DirtyTracker(memory);
  touch(new Uint8Array(memory.buffer), 3, 2);
  assert.deepEqual(pagesOf(tracker.collect()), [3]);
}

/** Nobody writes, so there is nothing that could be torn, however the memories share pages. */
export function manyInOnePage(): void {
  for (const bytes of [16, 700, 3000]) {
    for (const count of [1, 2, 10, 100]) {
      for (let round = 0; round < 20; round++) {
        const buffers = Array.from({ length: count }, (_, i) => new Uint8Array(bytes).fill(i + 1));
        if (round % 2 === 1) buffers.push(buffers[0]!, buffers[0]!.subarray(3, 9));
        using tracker = new DirtyTracker(buffers[0]!);
        buffers[0]![5] = 77;
        using snapshot = Snapshot.take(buffers);
        assert.ok(tracker.collect().has(5), 'a tracker is told what the snapshot took from the kernel');
        const held = buffers.map((each) => Buffer.from(each));
        for (const each of buffers) each.fill(200);
        assert.equal(snapshot.restore().different, 0);
        for (const [i, each] of buffers.entries()) {
          assert.equal(Buffer.compare(each, held[i]!), 0, `${count} buffers of ${bytes}: number ${i}`);
        }
        assert.deepEqual(snapshot.restore(), { pages: 0, bytes: 0, different: 0 });
      }
    }
  }
}

/** There is no memory for the bytes: an error, like of a buffer that JavaScript makes. */
export function readWithoutMemory(what: 'snapshot' | 'history'): void {
  const region = Region.allocate({ bytes: 1024 * MIB });
  region.bytes[5] = 1;
  const holder = what === 'snapshot' ? Snapshot.take(region) : new SnapshotHistory(region);
  const entry = holder instanceof SnapshotHistory ? holder.take() : 0;
  const status = readFileSync('/proc/self/status', 'utf8');
  const limit = Number(/VmSize:\s+(\d+)/.exec(status)![1]) * 1024 + 512 * MIB;
  execFileSync('prlimit', ['--pid', String(process.pid), `--as=${limit}:`]);
  assert.throws(() => (holder instanceof SnapshotHistory ? holder.read(entry) : holder.read()), RangeError);
  const few = holder instanceof SnapshotHistory ? holder.read(entry, 0, PAGE) : holder.read(0, PAGE);
  assert.equal(few[5], 1);
}

/** Pages that were discarded, or written and are as they were, have nothing to be put back. */
export function discardedUntouched(): void {
  const region = Region.allocate({ bytes: 256 * MIB });
  touch(region.bytes, 9, 1);
  using snapshot = Snapshot.take(region);
  const before = residentBytes();
  region.discard();
  touch(region.bytes, 20, 0);
  touch(region.bytes, 30, 3);
  assert.deepEqual(pagesOf(snapshot.diff()), [9, 30]);
  assert.deepEqual(snapshot.restore(), { pages: 2, bytes: 2 * PAGE, different: 0 });
  const grew = residentBytes() - before;
  assert.ok(grew < 16 * MIB, `restore() made ${grew} bytes resident`);
  assert.deepEqual([region.bytes[9 * PAGE], region.bytes[20 * PAGE], region.bytes[30 * PAGE]], [1, 0, 0]);
}

/** Nor are the holes of shared memory, of which a page that exists may come from another mapping. */
export function sparseShared(): void {
  const region = Region.allocate({ bytes: 1024 * MIB, backing: 'memfd' });
  const alias = region.alias();
  touch(region.bytes, 7, 1);
  touch(alias.bytes, 200_000, 2);
  const before = residentBytes();
  using snapshot = Snapshot.take(region, { mode: 'copy' });
  assert.deepEqual(
    [7, 8, 200_000].map((page) => snapshot.read(page * PAGE, 1)[0]),
    [1, 0, 2],
  );
  const grew = residentBytes() - before;
  assert.ok(grew < 64 * MIB, `take() made ${grew} bytes resident`);
}

/** Memory whose missing pages come from elsewhere: what does not exist is not zero. */
export function filledElsewhere(kind: string): void {
  const { memory: made, bytes } = MEMORIES[kind]!();
  const memory = Region.isRegion(made) ? made : Region.from(made);
  const source = Region.allocate({ bytes: bytes().length });
  source.bytes.fill(7);
  using uffd = Userfaultfd.open({ features: ['EVENT_REMOVE', 'POISON'] });
  uffd.register(memory, 'missing', { source });
  // For no other engine would share the memory.
  assert.equal(testing().refuseUserfaultfd(constants.errno.EPERM), 0);
  using snapshot = Snapshot.take(memory, { mode: 'copy' });
  assert.ok(snapshot.read().every((byte) => byte === 7));
}

/** A huge page has other data than the view's: the kernel arms and reports all of it. */
export function hugeViews(mapping: 'private' | 'shared'): void {
  const size = 2 * MIB;
  const region = Region.allocate({ bytes: 3 * size, backing: 'hugetlb', mapping });
  const random = seeded(3);
  for (let at = 0; at < region.byteLength; at += 101) region.bytes[at] = 1 + random(255);
  const views: [first: number, behind: number][] = [
    [0, 3 * size],
    [size, 2 * size],
    [PAGE, 2 * PAGE],
    [5, size + 7],
    [size + 3 * PAGE + 9, size + 3 * PAGE + 99],
  ];
  for (const [first, behind] of views) {
    for (const mode of ['copy', 'auto'] as const) {
      const view = region.bytes.subarray(first, behind);
      const before = Buffer.from(region.bytes);
      using snapshot = Snapshot.take(view, { mode });
      assert.equal(snapshot.diff().isEmpty, true);
      view[view.length - 1]! ^= 255;
      for (const neighbour of [first - 1, behind]) {
        if (neighbour < 0 || neighbour >= region.byteLength) continue;
        region.bytes[neighbour]! ^= 255;
        before[neighbour] = region.bytes[neighbour]!;
      }
      assert.ok([...snapshot.diff()].some(({ offset, length }) => offset + length === view.length));
      assert.equal(Buffer.compare(snapshot.read(), before.subarray(first, behind)), 0);
      const { pages, different } = snapshot.restore();
      assert.deepEqual({ pages, different }, { pages: 1, different: 0 });
      assert.equal(Buffer.compare(region.bytes, before), 0, `${first} to ${behind}, ${mode}`);
    }
  }
}
