// Conformance: PAGEMAP_SCAN as trackers and userfaultfds use it.

import assert from 'node:assert/strict';
import { DirtyTracker, Region, Userfaultfd, type DirtyPages } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { allocate, HUGE, hugeBytes, kindOf, makeHuge, numbers } from './conformance-support.js';
import { pages, Toucher, until } from './loop-support.js';

/** The numbers of the pages, of the region's size. */
function pagesOf(dirty: DirtyPages, region: Region, pageSize = region.pageSize): number[] {
  return [...dirty].flatMap(({ offset, length }) => {
    assert.equal(offset % pageSize, 0);
    assert.equal(length % pageSize, 0);
    return numbers(length / pageSize, (i) => offset / pageSize + i);
  });
}

export function sanity(kind: string): void {
  const region = allocate(kind, 16);
  const { bytes, pageSize } = region;
  bytes[3 * pageSize] = 1;
  using tracker = new DirtyTracker(region);
  assert.deepEqual(pagesOf(tracker.collect(), region), [], 'what was written before does not count');
  assert.equal(bytes[5 * pageSize], 0, 'nor does a read');
  assert.equal(tracker.peek().isEmpty, true);

  bytes[7 * pageSize] = 1;
  bytes[7 * pageSize + 1] = 1;
  bytes[3 * pageSize] = 1; // the same value
  for (let i = 0; i < 3; i++) assert.deepEqual(pagesOf(tracker.peek(), region), [3, 7]);
  assert.deepEqual(pagesOf(tracker.collect(), region), [3, 7]);
  assert.equal(tracker.collect().isEmpty, true);
  bytes[7 * pageSize] = 2;
  assert.deepEqual(pagesOf(tracker.collect(), region), [7], 'it was armed again');

  region.discard(7 * pageSize, pageSize);
  assert.deepEqual(pagesOf(tracker.collect(), region), [7]);
  assert.equal(bytes[7 * pageSize], 0);
  assert.deepEqual(pagesOf(tracker.collect(), region), [], 'nor does reading what was given back');
}

/** Nothing, each page alone, every other page, all of them. */
function base(region: Region, pageSize = region.pageSize, step = 1): void {
  const { bytes, byteLength } = region;
  const count = byteLength / pageSize;
  const tracker = new DirtyTracker(region);
  const write = (page: number): void => {
    bytes[page * pageSize + ((page * 97) % pageSize)] = page;
  };
  const collected = (): number[] => pagesOf(tracker.collect(), region, pageSize);
  assert.deepEqual(collected(), []);
  for (let page = 0; page < count; page += step) {
    write(page);
    assert.deepEqual(collected(), [page]);
  }
  for (const first of [0, 1]) {
    for (let page = first; page < count; page += 2) write(page);
    assert.deepEqual(
      collected(),
      numbers(Math.ceil((count - first) / 2), (i) => first + 2 * i),
    );
  }
  for (let page = 0; page < count; page++) write(page);
  assert.deepEqual(
    collected(),
    numbers(count, (i) => i),
  );
  assert.deepEqual(collected(), []);
  for (const page of [0, count - 1]) {
    write(page);
    assert.deepEqual(collected(), [page]);
  }
  tracker.close();
}

export function perPage(kind: string): void {
  const untouched = allocate(kind, 1000, { hugePages: 'never' });
  base(untouched);
  const written = allocate(kind, 1000, { hugePages: 'never' });
  written.bytes.fill(1);
  base(written);
}

export function largePage(kind: string): void {
  const region = allocate(kind, (2 * HUGE) / 4096, { hugePages: 'advise' });
  region.bytes.fill(1);
  makeHuge(region);
  using tracker = new DirtyTracker(region);
  assert.equal(tracker.collect().isEmpty, true);
  // The kernel maps armed huge pages of a file in small ones.
  if (kind === 'anonymous') assert.equal(hugeBytes(region), 2 * HUGE, 'tracking alone splits none');
  region.bytes[HUGE + 5 * 4096 + 1] = 2;
  assert.deepEqual(pagesOf(tracker.collect(), region), [HUGE / 4096 + 5]);
  region.bytes.fill(3, HUGE / 2, HUGE);
  assert.deepEqual(
    pagesOf(tracker.collect(), region),
    numbers(256, (i) => 256 + i),
  );
  tracker.close();

  // Joined while they are tracked: no state is lost.
  using again = new DirtyTracker(region);
  region.bytes[9 * 4096] = 4;
  testing().collapse(region.bytes);
  assert.ok(again.collect().has(9 * 4096));
  again.close();
  base(region, 4096, 37);
}

export function hugetlb(kind: string): void {
  base(allocate(kind, 8));
  const written = allocate(kind, 8);
  written.bytes.fill(1);
  base(written);
}

export function memfd(kind: string): void {
  const region = allocate(kind, 16);
  const { pageSize } = region;
  const alias = region.alias();
  base(region);
  base(alias);
  using tracker = new DirtyTracker(region);
  using other = new DirtyTracker(alias);
  region.bytes[2 * pageSize] = 1;
  alias.bytes[5 * pageSize] = 1;
  assert.deepEqual(pagesOf(tracker.collect(), region), [2, 5]);
  assert.deepEqual(pagesOf(other.collect(), alias), [2, 5]);
  assert.deepEqual([alias.bytes[2 * pageSize], region.bytes[5 * pageSize]], [1, 1]);
}

/**
 * Each round a thread writes each page once, anywhere between the collections. A page may be told twice:
 * when its first write faulted, was collected and armed again before the thread wrote.
 */
export function transact(kind: string): void {
  const count = kindOf(kind).hugetlb ? 8 : 512;
  const rounds = 20;
  const region = allocate(kind, count, { shared: true });
  const { pageSize } = region;
  using tracker = new DirtyTracker(region);
  const thread = new Toucher(region.bytes, { stride: pageSize, count });
  for (let round = 1; round <= rounds; round++) {
    thread.go(round);
    const told = new Set<number>();
    const collect = (): void => {
      for (const page of pagesOf(tracker.collect(), region)) told.add(page);
    };
    while (thread.finishedRound < round) collect();
    until(() => thread.finishedRound === round);
    collect();
    assert.equal(told.size, count, 'no write is missed');
    assert.equal(tracker.collect().isEmpty, true);
  }
  thread.end();
}

export function ranges(kind: string): void {
  const region = allocate(kind, 8);
  const { bytes, byteLength, pageSize } = region;
  const uffd = Userfaultfd.open({ features: ['WP_HUGETLBFS_SHMEM'] });
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region, pages(region, 2, 3));
  const outside = [
    { offset: -pageSize, length: pageSize },
    { offset: byteLength, length: pageSize },
    { offset: byteLength - pageSize, length: 2 * pageSize },
    { offset: 0, length: byteLength + pageSize },
    { offset: 1, length: pageSize },
    { offset: 0, length: pageSize - 1 },
    { offset: 2 ** 53, length: pageSize },
    { offset: 0.5, length: pageSize },
  ];
  for (const range of outside) {
    const refused = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };
    assert.throws(() => uffd.armedPages(region, range), refused, JSON.stringify(range));
    assert.throws(() => uffd.writeProtect(region, range), refused);
    assert.throws(() => uffd.unprotect(region, range), refused);
  }
  assert.equal(uffd.armedPages(region), 3);
  assert.equal(uffd.armedPages(region, pages(region, 0, 3)), 1);
  assert.equal(uffd.armedPages(region, pages(region, 3, 5)), 2);
  uffd.close();

  const half = Region.from(bytes.subarray(0, 4 * pageSize));
  const middle = Region.from(bytes.subarray(2 * pageSize, 6 * pageSize));
  using trackers = new DirtyTracker([region, half, middle]);
  using alone = new DirtyTracker(middle);
  bytes[pageSize] = 1;
  bytes[3 * pageSize] = 1;
  bytes[5 * pageSize] = 1;
  const dirty = trackers.collect();
  const told = [0, 1, 2].map((i) => pagesOf(dirty.of(i), region));
  assert.deepEqual(told, [
    [1, 3, 5],
    [1, 3],
    [1, 3],
  ]);
  assert.deepEqual(pagesOf(alone.collect(), region), [1, 3]);
  assert.deepEqual([trackers.collect().isEmpty, alone.collect().isEmpty], [true, true]);
}

export function unmapped(kind: string): void {
  const region = allocate(kind, 8);
  const { pageSize } = region;
  region.bytes.fill(1);
  const tracker = new DirtyTracker(region);
  const uffd = Userfaultfd.open();
  assert.equal(tracker.collect().isEmpty, true);
  // Elsewhere and back: whether a page was written meanwhile nobody knows.
  const failure = testing().remap(region.bytes, pageSize);
  assert.equal(failure, undefined, JSON.stringify(failure));
  region.bytes[2 * pageSize] = 2;
  assert.ok(pagesOf(tracker.collect(), region).includes(2));
  region.bytes[3 * pageSize] = 2;
  assert.deepEqual(pagesOf(tracker.collect(), region), [3], 'and it is tracked again');

  region.discard();
  assert.equal(tracker.collect().byteLength, region.byteLength);
  region.close();
  assert.throws(() => tracker.collect(), { code: 'ERR_UFFD_CLOSED' });
  assert.throws(() => tracker.peek(), { code: 'ERR_UFFD_CLOSED' });
  assert.throws(() => uffd.armedPages(region), { code: 'ERR_UFFD_CLOSED' });
  tracker.close();
  uffd.close();
}

export function invalidFlags(kind: string): void {
  const region = allocate(kind, 8);
  const uffd = Userfaultfd.open({ features: ['WP_HUGETLBFS_SHMEM'] });
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region, pages(region, 1, 2));
  const given = (options: object): never => options as never;
  const wrong: (() => unknown)[] = [
    () => Userfaultfd.open(given({ features: ['NO_SUCH'] })),
    () => uffd.register(allocate(kind, 1), 'write-only' as never),
    () => uffd.unprotect(region, undefined, given({ flags: 4 })),
    () => uffd.unprotect(region, given({ start: 0 })),
    () => uffd.copy(region, 0, new Uint8Array(region.pageSize), given({ mode: 8 })),
    () => uffd.armedPages(region, given({ category: 'written' })),
    () => new DirtyTracker(region, given({ engine: 'soft-dirty' })),
    () => new DirtyTracker(region, given({ flags: 1 })),
  ];
  for (const [i, call] of wrong.entries()) {
    assert.throws(call, { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' }, `call ${i}`);
  }
  assert.equal(uffd.armedPages(region), 2);
  assert.equal(uffd.registrations.length, 1);
  uffd.close();
}
