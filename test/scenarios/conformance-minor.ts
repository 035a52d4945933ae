// Conformance: minor faults, of pages that a second mapping filled.

import assert from 'node:assert/strict';
import { Userfaultfd, type Region } from '../../lib/index.js';
import {
  allocate,
  armed,
  firstBytes,
  HUGE,
  hugeBytes,
  kindOf,
  makeHuge,
  NEVER_MS,
  nextFault,
  numbers,
} from './conformance-support.js';
import { eventually, Toucher } from './loop-support.js';

/** Whole 64 KiB, as shared buffers are. */
const pageCount = (kind: string): number => (kindOf(kind).hugetlb ? 4 : 16);

/** A page each of 1, 2, 3, …, through the mapping nobody registered. */
function fill(alias: Region): void {
  const { pageSize, byteLength } = alias;
  for (let at = 0; at < byteLength; at += pageSize)
    alias.bytes.fill(1 + ((at / pageSize) % 251), at, at + pageSize);
}

export async function minor(kind: string): Promise<void> {
  const count = pageCount(kind);
  const region = allocate(kind, count, { shared: true });
  const { pageSize } = region;
  const alias = region.alias();
  const uffd = Userfaultfd.open();
  // Registered first: filling the other mapping is no fault of this one.
  let registration = uffd.register(region, 'minor', { resolve: 'handler', deadlineMs: NEVER_MS });
  fill(alias);
  const events = uffd.events();
  const thread = new Toucher(region.bytes, { stride: pageSize, count, access: 'read' });
  thread.go();
  for (let i = 0; i < count; i++) {
    const fault = await nextFault(events);
    assert.deepEqual([fault.reason, fault.access, fault.pageOffset], ['minor', 'read', i * pageSize]);
    const page = alias.bytes.subarray(i * pageSize, (i + 1) * pageSize);
    page.fill(page[0]! ^ 0xff);
    assert.equal(await fault.resolve(), true);
    assert.equal(fault.action, 'continue');
  }
  await eventually(() => thread.finishedRound === 1);
  assert.equal(thread.lastRead, count ^ 0xff);
  assert.deepEqual(
    firstBytes(region),
    numbers(count, (i) => (i + 1) ^ 0xff),
  );
  registration.close();

  // By the loop, of another mapping.
  const other = region.alias();
  registration = uffd.register(other, 'minor');
  assert.deepEqual(firstBytes(other), firstBytes(region));
  for (let i = 0; i < count; i++) {
    const fault = await nextFault(events);
    assert.deepEqual([fault.reason, fault.endedBy, fault.action], ['minor', 'loop', 'continue']);
  }
  uffd.close();
}

export async function minorWp(kind: string): Promise<void> {
  const count = pageCount(kind);
  const region = allocate(kind, count, { shared: true });
  const { pageSize } = region;
  const alias = region.alias();
  const uffd = Userfaultfd.open({ features: ['WP_UNPOPULATED', 'WP_HUGETLBFS_SHMEM'] });
  uffd.register(region, ['minor', 'write-protect'], { resolve: 'handler', deadlineMs: NEVER_MS });
  fill(alias);
  const events = uffd.events();
  const thread = new Toucher(region.bytes, { stride: pageSize, count, value: 99 });
  thread.go();
  for (let i = 0; i < count; i++) {
    const mapped = await nextFault(events);
    assert.deepEqual([mapped.reason, mapped.access, mapped.pageOffset], ['minor', 'write', i * pageSize]);
    assert.equal(await mapped.resolve(undefined, { writeProtect: true }), true);
    const written = await nextFault(events);
    assert.deepEqual([written.reason, written.pageOffset], ['write-protect', i * pageSize]);
    assert.equal(region.bytes[i * pageSize], i + 1);
    assert.deepEqual(
      armed(uffd, region),
      numbers(count, (page) => (page === i ? 1 : 0)),
    );
    await written.resolve();
  }
  await eventually(() => thread.finishedRound === 1);
  assert.deepEqual(
    firstBytes(alias),
    numbers(count, () => 99),
  );
  uffd.close();
}

export function minorCollapse(kind: string): void {
  const region = allocate(kind, (2 * HUGE) / 4096, { hugePages: 'advise' });
  const alias = region.alias();
  const uffd = Userfaultfd.open();
  uffd.register(region, 'minor');
  fill(alias);
  const expected = alias.bytes.slice();
  assert.equal(Buffer.compare(region.bytes, expected), 0);
  makeHuge(region);
  assert.equal(Buffer.compare(region.bytes, expected), 0);
  assert.equal(hugeBytes(region), 2 * HUGE);
  uffd.close();
}
