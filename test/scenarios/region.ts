// What the kernel and the garbage collector see of regions.

import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { DirtyTracker, Region, Snapshot, Userfaultfd } from '../../lib/index.js';
import {
  mappings,
  newRanges,
  presentPages,
  residentBytes,
  unforked,
  type Mapping,
} from './region-memory-map.js';

const MIB = 2 ** 20;
/** What V8 may map for itself meanwhile; its pages have the same flags. */
const NOISE = 32 * MIB;

/** A size nothing else in the process has. */
const ODD_PAGES = 1237;

interface Found {
  region: Region;
  start: bigint;
  mapping: Mapping;
}

function allocateAndFind(): Found {
  for (let i = 0; i < 10; i++) {
    const before = mappings();
    const region = Region.allocate({ bytes: ODD_PAGES * 4096 });
    const after = mappings();
    // V8 may map something right beside it meanwhile; then try again.
    const range = newRanges(before, after).find(
      (each) => Number(each.end - each.start) === region.byteLength,
    );
    if (range === undefined) continue;
    const mapping = after.find((each) => each.start <= range.start && range.end <= each.end)!;
    return { region, start: range.start, mapping };
  }
  assert.fail('no new mapping has the size of the region');
}

export function hasItsOwnMapping(): void {
  const { region, start, mapping } = allocateAndFind();
  assert.equal(mapping.permissions, 'rw-p');
  assert.equal(mapping.path, '');
  assert.ok(mapping.flags.has('dc'), 'MADV_DONTFORK');
  assert.ok(!mapping.flags.has('mg'), 'not mergeable');
  const present = (): number => presentPages(start, region.byteLength, region.pageSize);
  assert.equal(present(), 0, 'nothing is resident before it is touched');
  region.bytes[0] = 1;
  assert.ok(present() > 0, 'the mapping is the memory');
}

/** Started with PR_SET_MEMORY_MERGE on, which makes every mapping mergeable that does not object. */
export function isNotMergeable(): void {
  assert.ok(
    mappings().some((each) => each.flags.has('mg')),
    'PR_SET_MEMORY_MERGE is on in this process',
  );
  const { mapping } = allocateAndFind();
  assert.ok(!mapping.flags.has('mg'), [...mapping.flags].join(' '));
}

async function until(
  what: string,
  reached: () => boolean,
  step: () => void = () => undefined,
): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (reached()) return;
    step();
    await turn();
  }
  assert.fail(`never came: ${what}`);
}

function allocateTouchDrop(bytes: number): void {
  Region.allocate({ bytes }).bytes.fill(1);
}

export async function collectorReleases(): Promise<void> {
  const before = unforked();
  const residentBefore = residentBytes();
  let mostMapped = 0;
  let mostResident = 0;
  for (let i = 0; i < 200; i++) {
    allocateTouchDrop(16 * MIB);
    mostMapped = Math.max(mostMapped, unforked().bytes);
    mostResident = Math.max(mostResident, residentBytes());
    if (i % 8 === 7) {
      gc!();
      await turn();
    }
  }
  assert.ok(mostMapped - before.bytes < 768 * MIB, `${mostMapped / MIB} MiB mapped at once`);
  assert.ok(mostResident - residentBefore < 768 * MIB, `${mostResident / MIB} MiB resident at once`);
  await until(
    // Of 200; V8 may keep the last few in frames and caches, however many there were.
    'all but a few forgotten mappings are gone',
    () => unforked().bytes < before.bytes + 6 * 16 * MIB,
    () => {
      gc!();
    },
  );
  assert.ok(residentBytes() - residentBefore < 128 * MIB);
}

/** Nobody calls gc(): V8 must know what these buffers weigh. */
export async function collectorReleasesUnasked(): Promise<void> {
  const before = unforked().bytes;
  let most = 0;
  for (let i = 0; i < 200; i++) {
    allocateTouchDrop(16 * MIB);
    await turn();
    most = Math.max(most, unforked().bytes - before);
  }
  assert.ok(most < 1600 * MIB, `${most / MIB} MiB of 3,200 mapped at once`);
}

export async function collectorReleasesTrackedOnes(): Promise<void> {
  const before = unforked().bytes;
  const trackAndForget = (): void => {
    const region = Region.allocate({ bytes: 4 * MIB });
    const tracker = new DirtyTracker(region);
    region.bytes.fill(1);
    assert.equal(tracker.collect().byteLength, 4 * MIB);
  };
  for (let i = 0; i < 50; i++) trackAndForget();
  await until(
    'regions forgotten together with their trackers are gone',
    () => unforked().bytes < before + NOISE,
    () => {
      gc!();
    },
  );
}

/** The closed object is still held; the memory must not wait for the collector to find it. */
export async function closeReleases(): Promise<void> {
  const before = unforked();
  const held: Region[] = [];
  for (let i = 0; i < 16; i++) {
    const region = Region.allocate({ bytes: 16 * MIB });
    region.bytes.fill(1);
    region.close();
    held.push(region);
  }
  // The pages are back at once; the addresses when nobody can write to them any more.
  assert.ok(unforked().residentBytes < before.residentBytes + NOISE);
  await until(
    'closed memory is unmapped',
    () => unforked().bytes < before.bytes + NOISE,
    () => {
      gc!();
    },
  );
  assert.equal(held.length, 16);
}

export async function aThousandSmallOnes(): Promise<void> {
  const before = unforked().bytes;
  const bytesEach = 256 * 1024;
  const regions = Array.from({ length: 1000 }, () => Region.allocate({ bytes: bytesEach }));
  for (const [i, { bytes, pageSize }] of regions.entries()) bytes.fill(i % 251, 0, pageSize);
  for (const [i, { bytes, pageSize }] of regions.entries()) {
    assert.equal(bytes.length, bytesEach);
    assert.ok(
      bytes.subarray(0, pageSize).every((byte) => byte === i % 251),
      `region ${i} has its own bytes`,
    );
    assert.equal(bytes[pageSize], 0);
  }
  assert.ok(unforked().bytes - before >= 1000 * bytesEach);
  for (const region of regions) region.close();
  regions.length = 0;
  await until(
    'all thousand are unmapped',
    () => unforked().bytes < before + NOISE,
    () => {
      gc!();
    },
  );
}

export function discardReleases(): void {
  const { region, start } = allocateAndFind();
  const { pageSize, bytes } = region;
  const present = (): number => presentPages(start, region.byteLength, pageSize);
  bytes.fill(7);
  assert.equal(present(), ODD_PAGES);

  region.discard(100 * pageSize, 10 * pageSize);
  assert.equal(present(), ODD_PAGES - 10);
  assert.deepEqual(
    [99, 100, 109, 110].map((page) => [bytes[page * pageSize], bytes[(page + 1) * pageSize - 1]]),
    [
      [7, 7],
      [0, 0],
      [0, 0],
      [7, 7],
    ],
  );

  region.discard(1000 * pageSize);
  assert.equal(presentPages(start + BigInt(1000 * pageSize), (ODD_PAGES - 1000) * pageSize, pageSize), 0);
  assert.equal(bytes[1000 * pageSize - 1], 7);
  assert.ok(bytes.subarray(1000 * pageSize).every((byte) => byte === 0));
  region.discard();
  assert.equal(present(), 0);
  assert.ok(bytes.every((byte) => byte === 0));
}

/** They lie between malloc's own data, which is written all the time, also by taking the snapshot. */
export function snapshotsOfSmallBuffers(): void {
  const kept: Uint8Array[] = [];
  for (let round = 0; round < 100; round++) {
    for (const bytes of [40, 1000, 5000, 8192, 20_000]) {
      const buffer = new Uint8Array(bytes).fill(round);
      kept.push(buffer);
      const snapshot = Snapshot.take(buffer);
      buffer.fill(255);
      snapshot.restore();
      assert.ok(buffer.every((byte) => byte === round));
      snapshot.close();
    }
  }
  assert.equal(kept.length, 500);
}

/** More than 32 bits of offset, in memory that is never resident. */
export function isLarge(bytesText: string): void {
  const bytes = Number(bytesText);
  const region = Region.allocate({ bytes });
  assert.equal(region.byteLength, bytes);
  const { pageSize } = region;
  const tracker = new DirtyTracker(region);
  region.bytes[bytes - 1] = 1;
  assert.deepEqual([...tracker.collect()], [{ offset: bytes - pageSize, length: pageSize }]);
  region.discard(bytes - pageSize, pageSize);
  assert.equal(region.bytes[bytes - 1], 0);
  assert.ok(residentBytes() < 1024 * MIB);
  region.close();
}

/** transfer() takes the buffer away from under an armed region. */
export function transferWhileArmed(): void {
  const region = Region.allocate({ bytes: 8 * 4096 });
  const { pageSize } = region;
  region.bytes.fill(5);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  const buffer = region.buffer as ArrayBuffer & { transfer(): ArrayBuffer };
  const moved = new Uint8Array(buffer.transfer());

  const detached = { name: 'UffdError', code: 'ERR_UFFD_DETACHED' };
  assert.throws(() => region.bytes, detached);
  assert.throws(() => {
    uffd.writeProtect(region);
  }, detached);
  assert.throws(() => uffd.armedPages(region), detached);
  // Still armed, still served.
  moved[3 * pageSize] = 6;
  assert.equal(moved[3 * pageSize], 6);
  region.close();
  moved.fill(8);
  assert.equal(uffd.registrations.length, 0);
  uffd.close();
  assert.ok(moved.every((byte) => byte === 8));
}

export function transferWhileTracked(): void {
  const region = Region.allocate({ bytes: 8 * 4096 });
  region.bytes.fill(5);
  const tracker = new DirtyTracker(region);
  const snapshot = Snapshot.take(region);
  const buffer = region.buffer as ArrayBuffer & { transfer(): ArrayBuffer };
  const moved = new Uint8Array(buffer.transfer());
  moved.fill(6);
  const detached = { name: 'UffdError', code: 'ERR_UFFD_DETACHED' };
  assert.throws(() => tracker.collect(), detached);
  assert.throws(() => tracker.peek(), detached);
  assert.throws(() => snapshot.restore(), detached);
  assert.throws(() => snapshot.diff(), detached);
  assert.ok(
    moved.every((byte) => byte === 6),
    'nothing was written behind the back of the new owner',
  );
  assert.ok(snapshot.read().every((byte) => byte === 5));
  tracker.close();
  snapshot.close();
  region.close();
  moved.fill(7);
  assert.ok(moved.every((byte) => byte === 7));
}
