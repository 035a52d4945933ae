import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { DirtyTracker, Region, type DirtyPages, type Trackable } from '../lib/index.js';
import { PAGE, pageRun, pagesOf, seeded, sorted, touch } from './scenarios/dirty-support.js';

/** What a tracker of `memory` says after `write`. */
function dirtyAfter(memory: Trackable | Trackable[], write: () => void): DirtyPages {
  using tracker = new DirtyTracker(memory);
  write();
  return tracker.collect();
}

/** The set after a write to each of these pages of a new region. */
function dirtyPages(pages: readonly number[], of = 64): DirtyPages {
  const region = Region.allocate({ bytes: of * PAGE });
  return dirtyAfter(region, () => {
    for (const page of pages) touch(region.bytes, page, 1);
  });
}

test('it is empty when nothing was written', () => {
  const dirty = dirtyPages([]);
  assert.equal(dirty.isEmpty, true);
  assert.equal(dirty.pageCount, 0);
  assert.equal(dirty.byteLength, 0);
  assert.deepEqual([...dirty], []);
  assert.equal(dirty.has(0), false);
  assert.equal(dirty.memoryCount, 1);
  assert.equal(dirty.pageSize, PAGE);
});

test('it iterates ranges in bytes, ascending, disjoint and merged', () => {
  const dirty = dirtyPages([9, 3, 4, 5, 63, 0]);
  const ranges = [
    { offset: 0, length: PAGE },
    { offset: 3 * PAGE, length: 3 * PAGE },
    { offset: 9 * PAGE, length: PAGE },
    { offset: 63 * PAGE, length: PAGE },
  ];
  assert.deepEqual([...dirty], ranges);
  assert.deepEqual([...dirty], ranges, 'a second time');
  const iterator = dirty[Symbol.iterator]();
  assert.deepEqual(iterator.next(), { done: false, value: ranges[0] });
  assert.equal(iterator[Symbol.iterator](), iterator);
  assert.equal(dirty.isEmpty, false);
  assert.equal(dirty.pageCount, 6);
  assert.equal(dirty.byteLength, 6 * PAGE);
});

test('it keeps what it says when the memory goes on changing', () => {
  const region = Region.allocate({ bytes: 16 * PAGE });
  using tracker = new DirtyTracker(region);
  touch(region.bytes, 3, 1);
  const dirty = tracker.collect();
  touch(region.bytes, 4, 1);
  tracker.collect();
  tracker.close();
  region.close();
  assert.deepEqual(pagesOf(dirty), [3]);
  assert.equal(dirty.has(4 * PAGE), false);
});

test('it has the first and the last byte of each range, and neither of the bytes beside it', () => {
  const dirty = dirtyPages([2, 3, 10]);
  for (const [first, last] of [
    [2 * PAGE, 4 * PAGE - 1],
    [10 * PAGE, 11 * PAGE - 1],
  ] as const) {
    assert.equal(dirty.has(first - 1), false);
    assert.equal(dirty.has(first), true);
    assert.equal(dirty.has(last), true);
    assert.equal(dirty.has(last + 1), false);
  }
  assert.equal(dirty.has(0), false);
  assert.equal(dirty.has(3 * PAGE), true, 'inside a range');
  assert.equal(dirty.has(64 * PAGE), false, 'behind the memory');
  assert.equal(dirty.has(Number.MAX_SAFE_INTEGER), false);
});

test('it has exactly the bytes that its ranges have', () => {
  const random = seeded(51);
  const pages = sorted(Array.from({ length: 100 }, () => random(300)));
  const dirty = dirtyPages(pages, 300);
  for (let page = 0; page < 300; page++) {
    for (const offset of [page * PAGE, page * PAGE + 1 + random(PAGE - 2), page * PAGE + PAGE - 1]) {
      assert.equal(dirty.has(offset), pages.includes(page), `byte ${offset}`);
    }
  }
});

test('it refuses offsets and memories that cannot be', () => {
  const dirty = dirtyPages([1]);
  for (const offset of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
    assert.throws(() => dirty.has(offset), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
  }
  // @ts-expect-error the type forbids it too
  assert.throws(() => dirty.has('1'), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  // @ts-expect-error the type forbids it too
  assert.throws(() => dirty.has(1n), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  for (const memory of [-1, 1, 0.5, NaN]) {
    assert.throws(() => dirty.has(0, memory), { code: 'ERR_OUT_OF_RANGE' });
    assert.throws(() => dirty.of(memory), { code: 'ERR_OUT_OF_RANGE' });
  }
});

test('it clips the first and the last page to a buffer that is not page-aligned', () => {
  const region = Region.allocate({ bytes: 8 * PAGE });
  const view = new Uint8Array(region.buffer, PAGE + 100, 3 * PAGE);
  const all = dirtyAfter(view, () => view.fill(1));
  // 3 pages of bytes that lie in 4 pages.
  assert.deepEqual([...all], [{ offset: 0, length: 3 * PAGE }]);
  assert.equal(all.pageCount, 4);
  assert.equal(all.byteLength, 3 * PAGE);
  assert.equal(all.has(3 * PAGE - 1), true);
  assert.equal(all.has(3 * PAGE), false);

  const first = dirtyAfter(view, () => (view[0] = 1));
  assert.deepEqual([...first], [{ offset: 0, length: PAGE - 100 }]);
  assert.equal(first.pageCount, 1);
  assert.equal(first.byteLength, PAGE - 100);
  assert.equal(first.has(PAGE - 101), true);
  assert.equal(first.has(PAGE - 100), false);

  const second = dirtyAfter(view, () => (view[PAGE - 100] = 1));
  assert.deepEqual([...second], [{ offset: PAGE - 100, length: PAGE }]);
  assert.equal(second.pageCount, 1);

  const last = dirtyAfter(view, () => (view[3 * PAGE - 1] = 1));
  assert.deepEqual([...last], [{ offset: 3 * PAGE - 100, length: 100 }]);
  assert.equal(last.pageCount, 1);
  assert.equal(last.byteLength, 100);
  assert.equal(last.has(3 * PAGE - 101), false);
  assert.equal(last.has(3 * PAGE - 100), true);
});

test('it clips both ends of a buffer smaller than a page', () => {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const inside = new Uint8Array(region.buffer, PAGE + 10, 20);
  const one = dirtyAfter(inside, () => (inside[3] = 1));
  assert.deepEqual([...one], [{ offset: 0, length: 20 }]);
  assert.deepEqual([one.pageCount, one.byteLength], [1, 20]);

  const across = new Uint8Array(region.buffer, 2 * PAGE - 10, 20);
  const both = dirtyAfter(across, () => across.fill(1));
  assert.deepEqual([...both], [{ offset: 0, length: 20 }]);
  assert.deepEqual([both.pageCount, both.byteLength], [2, 20]);
  const right = dirtyAfter(across, () => (across[10] = 1));
  assert.deepEqual([...right], [{ offset: 10, length: 10 }]);
  assert.deepEqual([right.pageCount, right.byteLength], [1, 10]);
});

test('it tells the memories of a tracker apart', () => {
  const first = Region.allocate({ bytes: 8 * PAGE });
  const second = new WebAssembly.Memory({ initial: 1 });
  const backing = Region.allocate({ bytes: 8 * PAGE });
  const third = new Uint8Array(backing.buffer, 8, 2 * PAGE);
  const dirty = dirtyAfter([first, second, third], () => {
    touch(first.bytes, 1, 1);
    touch(first.bytes, 2, 1);
    third.fill(1);
  });
  assert.equal(dirty.memoryCount, 3);
  assert.deepEqual(
    [...dirty],
    [
      { offset: PAGE, length: 2 * PAGE, memory: 0 },
      { offset: 0, length: 2 * PAGE, memory: 2 },
    ],
  );
  assert.equal(dirty.pageCount, 5);
  assert.equal(dirty.byteLength, 4 * PAGE);
  assert.equal(dirty.has(PAGE), true, 'the first memory when none is named');
  assert.equal(dirty.has(PAGE, 1), false);
  assert.equal(dirty.has(PAGE, 2), true);
  assert.throws(() => dirty.has(0, 3), { code: 'ERR_OUT_OF_RANGE' });

  assert.deepEqual([...dirty.of(0)], [{ offset: PAGE, length: 2 * PAGE }]);
  assert.equal(dirty.of(1).isEmpty, true);
  assert.deepEqual([...dirty.of(2)], [{ offset: 0, length: 2 * PAGE }]);
  assert.equal(dirty.of(2).pageCount, 3);
  assert.equal(dirty.of(2).memoryCount, 1);
  assert.deepEqual([...dirty.of(2).of(0)], [...dirty.of(2)]);
});

test('it becomes JSON that says the same', () => {
  const dirty = dirtyPages([1, 2, 7]);
  assert.deepEqual(JSON.parse(JSON.stringify(dirty)), {
    pageSize: PAGE,
    pageCount: 3,
    byteLength: 3 * PAGE,
    ranges: [
      { offset: PAGE, length: 2 * PAGE },
      { offset: 7 * PAGE, length: PAGE },
    ],
  });
  const [a, b] = [Region.allocate({ bytes: PAGE }), Region.allocate({ bytes: PAGE })];
  const several = dirtyAfter([a, b], () => touch(b.bytes, 0, 1));
  assert.deepEqual(several.toJSON().ranges, [{ offset: 0, length: PAGE, memory: 1 }]);
});

test('it shows its counts and its first ranges in console.log, however many there are', () => {
  assert.equal(inspect(dirtyPages([])), 'DirtyPages { 0 pages, 0 bytes } []');
  const few = inspect(dirtyPages([1, 2, 7]));
  assert.match(few, /^DirtyPages \{ 3 pages, 12288 bytes \}/);
  assert.match(few, /offset: 4096, length: 8192/);
  assert.match(few, /offset: 28672, length: 4096/);
  assert.doesNotMatch(few, /more/);
  const many = inspect(
    dirtyPages(
      pageRun(0, 1000).map((page) => page * 2),
      2000,
    ),
  );
  assert.match(many, /^DirtyPages \{ 1000 pages, 4096000 bytes \}/);
  assert.match(many, /… 992 more ranges$/);
  assert.equal([...many.matchAll(/offset/g)].length, 8);
  const nested = inspect({ dirty: dirtyPages([5]) }, { depth: 5 });
  assert.match(nested, /dirty: DirtyPages \{ 1 page, 4096 bytes \}/);
});
