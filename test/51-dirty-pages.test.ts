import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { DirtyTracker, Region, type DirtyPages, type Trackable } from '../lib/index.js';
import { PackedPages } from '../lib/packed-pages.js';
import { PAGE, pageRun, pagesOf, resizableBuffer, seeded, sorted, touch } from './scenarios/dirty-support.js';

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

/** The same, asked in every way: in order first, before there is a list of it. */
function assertSays(dirty: DirtyPages, ranges: readonly (readonly [offset: number, length: number])[]): void {
  const bytes = ranges.reduce((sum, [, length]) => sum + length, 0);
  for (let i = 0; i < 2; i++) {
    assert.equal(dirty.isEmpty, ranges.length === 0);
    assert.equal(dirty.byteLength, bytes);
    assert.deepEqual(
      [...dirty],
      ranges.map(([offset, length]) => ({ offset, length })),
    );
    assert.deepEqual([...dirty.toFloat64Array()], ranges.flat());
  }
}

test('it says the same of pages that are far apart and of long runs, read in order or as a list', () => {
  const region = Region.allocate({ bytes: 2 ** 32 - PAGE, hugePages: 'never' });
  // Numbers of one, two and three digits in what the addon hands over: their edges, and one beside them.
  const distances = [0, 1, 62, 63, 64, 65, 127, 128, 8190, 8191, 8192, 8193, 16_384, 300_000];
  const ranges: [number, number][] = [];
  const dirty = dirtyAfter(region, () => {
    let page = 0;
    for (const distance of distances) {
      for (const run of [1, 2, 127, 128, 129]) {
        page += distance;
        for (let i = 0; i < run; i++) touch(region.bytes, page + i, 1);
        const last = ranges.at(-1);
        if (distance === 0 && last !== undefined) last[1] += run * PAGE;
        else ranges.push([page * PAGE, run * PAGE]);
        page += run;
        if (page + 400_000 > region.byteLength / PAGE) break;
      }
    }
  });
  assertSays(dirty, ranges);
  assert.equal(dirty.pageCount, dirty.byteLength / PAGE);
  const bitmap = dirty.toBitmap();
  for (const [offset, length] of ranges) {
    for (const [at, bit] of [
      [offset - PAGE, 0],
      [offset, 1],
      [offset + length - PAGE, 1],
      [offset + length, 0],
    ] as const) {
      const page = at / PAGE;
      if (page >= 0) assert.equal((bitmap[page >> 3]! >> (page & 7)) & 1, bit, `page ${page}`);
    }
  }
  region.close();
});

test('it tells every range, as many as there are', () => {
  const region = Region.allocate({ bytes: 600 * PAGE });
  for (const count of [1, 2, 63, 64, 65, 66, 127, 128, 129, 130, 193, 257]) {
    const dirty = dirtyAfter(region, () => {
      for (let i = 0; i < count; i++) touch(region.bytes, 2 * i, 1);
    });
    const ranges = Array.from({ length: count }, (_, i): [number, number] => [2 * i * PAGE, PAGE]);
    assertSays(dirty, ranges);
  }
  region.close();
});

test('it reads what the addon packs, of memory larger than this machine has', () => {
  const digits = (...numbers: number[]): string => {
    const bytes: number[] = [];
    for (let number of numbers) {
      for (; number >= 128; number = Math.floor(number / 128)) bytes.push((number % 128) + 128);
      bytes.push(number);
    }
    return String.fromCharCode(...bytes);
  };
  const size = 2 ** 52;
  const pages = size / PAGE;
  const lead = 2 ** 30 - 100;
  const set = new PackedPages(digits(lead, 2 * 2 ** 35, 2 * (2 ** 21 - 1) + 1, 2 ** 32), size, 2 ** 30);
  const first = 2 ** 35;
  const second = first + 2 ** 21;
  assert.equal(set.lead, lead);
  assert.deepEqual([...set.ranges], [first * PAGE - lead, PAGE, second * PAGE - lead, 2 ** 32 * PAGE]);
  // Clipped at both ends.
  const all = new PackedPages(digits(lead, 1, pages + 2 ** 30 / PAGE), size, 2 ** 30);
  assert.deepEqual([...all.ranges], [0, size]);
  assert.deepEqual([...new PackedPages(digits(lead), size, PAGE).ranges], []);
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

test('it is empty of a buffer that shrank to nothing inside a page', () => {
  const buffer = resizableBuffer(2 * PAGE + 100, 16 * PAGE);
  const view = new Uint8Array(buffer, 100);
  for (const engine of ['wp-async', 'compare'] as const) {
    buffer.resize(2 * PAGE + 100);
    using tracker = new DirtyTracker(view, { engine });
    new Uint8Array(buffer).fill(engine.length);
    buffer.resize(100);
    const dirty = tracker.collect();
    assertSays(dirty, []);
    assert.equal(dirty.pageCount, 0);
  }
});

test('it is right of memory whose view says something else of its length', () => {
  const region = Region.allocate({ bytes: 4 * PAGE });
  using tracker = new DirtyTracker(region);
  Object.defineProperty(region.bytes, 'byteLength', { value: 100 });
  touch(region.bytes, 3, 1);
  assertSays(tracker.collect(), [[3 * PAGE, PAGE]]);
  assert.equal(region.byteLength, 4 * PAGE);
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

/** Two looks at one region, and what a plain set says of them. */
function twoSets(first: number[], second: number[]): { a: DirtyPages; b: DirtyPages } {
  const region = Region.allocate({ bytes: 64 * PAGE });
  using tracker = new DirtyTracker(region);
  for (const page of first) touch(region.bytes, page, 1);
  const a = tracker.collect();
  for (const page of second) touch(region.bytes, page, 1);
  return { a, b: tracker.collect() };
}

test('it has union, intersection and difference, like a Set of pages', () => {
  const random = seeded(52);
  for (let round = 0; round < 100; round++) {
    const some = (): number[] => sorted(Array.from({ length: random(40) }, () => random(64)));
    const [first, second] = [some(), some()];
    const { a, b } = twoSets(first, second);
    assert.deepEqual(pagesOf(a.union(b)), sorted([...first, ...second]));
    assert.deepEqual(
      pagesOf(a.intersection(b)),
      first.filter((page) => second.includes(page)),
    );
    assert.deepEqual(
      pagesOf(a.difference(b)),
      first.filter((page) => !second.includes(page)),
    );
    assert.deepEqual(a.union(b), b.union(a));
    assert.deepEqual([pagesOf(a), pagesOf(b)], [first, second], 'neither set has changed');
  }
});

test('it merges ranges that meet in a union', () => {
  const { a, b } = twoSets([1, 2, 5], [3, 4]);
  assert.deepEqual([...a.union(b)], [{ offset: PAGE, length: 5 * PAGE }]);
  assert.equal(a.intersection(b).isEmpty, true);
});

test('it keeps the memories apart in a union, and their sizes', () => {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const memory = new WebAssembly.Memory({ initial: 1 });
  using tracker = new DirtyTracker([region, memory]);
  touch(region.bytes, 1, 1);
  const before = tracker.collect();
  memory.grow(1);
  touch(new Uint8Array(memory.buffer), 2, 1);
  const after = tracker.collect();
  const both = before.union(after);
  assert.deepEqual(pagesOf(both.of(0)), [1]);
  assert.deepEqual(pagesOf(both.of(1)), [2, ...pageRun(16, 16)]);
  assert.equal(both.toBitmap(1).length, 4);
  assert.equal(before.toBitmap(1).length, 2);
});

test('it counts a page once that two ranges share', () => {
  const backing = Region.allocate({ bytes: 8 * PAGE });
  const view = new Uint8Array(backing.buffer, 100, 3 * PAGE);
  const all = dirtyAfter(view, () => view.fill(1));
  const middle = dirtyAfter(view, () => (view[2 * PAGE] = 1));
  const without = all.difference(middle);
  assert.deepEqual([without.pageCount, without.union(middle).pageCount], [3, 4]);
});

test('it refuses to be combined with what is not a set of the same memories', () => {
  const dirty = dirtyPages([1]);
  const region = Region.allocate({ bytes: 4 * PAGE });
  const two = dirtyAfter([region, Region.allocate({ bytes: PAGE })], () => undefined);
  const shifted = dirtyAfter(new Uint8Array(region.buffer, 16), () => undefined);
  for (const other of [two, shifted]) {
    assert.throws(() => dirty.union(other), { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
  }
  for (const other of [undefined, null, {}, new Set([1]), []]) {
    // @ts-expect-error the type forbids it too
    assert.throws(() => dirty.intersection(other), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  }
});

test('it becomes a bitmap, the lowest bit first', () => {
  assert.deepEqual(dirtyPages([0, 9, 10, 63]).toBitmap(), Uint8Array.of(1, 6, 0, 0, 0, 0, 0, 0x80));
  assert.deepEqual(dirtyPages([], 9).toBitmap(), new Uint8Array(2));
  assert.deepEqual(dirtyPages(pageRun(0, 64)).toBitmap(), new Uint8Array(8).fill(255));
  assert.deepEqual(dirtyPages(pageRun(3, 30)).toBitmap(), Uint8Array.of(0xf8, 255, 255, 255, 1, 0, 0, 0));
  const backing = Region.allocate({ bytes: 4 * PAGE });
  const across = new Uint8Array(backing.buffer, PAGE - 10, PAGE + 20);
  assert.deepEqual(dirtyAfter(across, () => (across[0] = 1)).toBitmap(), Uint8Array.of(1));
  assert.deepEqual(dirtyAfter(across, () => (across[PAGE + 10] = 1)).toBitmap(), Uint8Array.of(4));
});

test('it becomes a Float64Array of ranges that is the caller’s own', () => {
  const dirty = dirtyPages([1, 2, 7]);
  const ranges = dirty.toFloat64Array();
  assert.deepEqual(ranges, Float64Array.of(PAGE, 2 * PAGE, 7 * PAGE, PAGE));
  ranges.fill(0);
  assert.equal(dirty.has(PAGE), true);
  assert.throws(() => dirty.toFloat64Array(1), { code: 'ERR_OUT_OF_RANGE' });
});

test('it narrows pages to the bytes that differ from a copy', () => {
  const region = Region.allocate({ bytes: 16 * PAGE });
  const random = seeded(53);
  for (let i = 0; i < region.byteLength; i++) region.bytes[i] = random(256);
  const copy = region.bytes.slice();
  using tracker = new DirtyTracker(region);
  const written = sorted([0, 1, 2, 100, PAGE - 1, PAGE, 5 * PAGE + 63, 5 * PAGE + 64, 16 * PAGE - 1]);
  for (const at of written) region.bytes[at]! ^= 0x55;
  region.bytes[9 * PAGE] = copy[9 * PAGE]!;
  const dirty = tracker.collect();
  const bytes = dirty.bytes(copy);
  assert.equal(bytes.pageSize, 1);
  assert.equal(bytes.byteLength, written.length);
  assert.deepEqual(
    [...bytes].flatMap(({ offset, length }) => pageRun(offset, length)),
    written,
  );
  assert.deepEqual([...bytes][0], { offset: 0, length: 3 });
  assert.deepEqual(dirty.has(9 * PAGE), true, 'the page was written');
  assert.deepEqual(bytes.has(9 * PAGE), false, 'and holds what it held');
  assert.match(inspect(bytes), /^DirtyPages \{ 9 bytes \}/);
  // Only the pages of the set are compared.
  copy[12 * PAGE]! ^= 1;
  assert.equal(dirty.bytes(copy).byteLength, written.length);
  assert.deepEqual([...dirty.bytes(region)], []);
});

test('it counts what lies behind the end of the copy as different', () => {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const copy = new Uint8Array(memory.buffer).slice();
  using tracker = new DirtyTracker(memory);
  new Uint8Array(memory.buffer)[5] = 1;
  memory.grow(1);
  const bytes = tracker.collect().bytes(copy);
  assert.deepEqual(
    [...bytes],
    [
      { offset: 5, length: 1 },
      { offset: 65_536, length: 65_536 },
    ],
  );
  assert.throws(() => tracker.collect().bytes(copy, 1), { code: 'ERR_OUT_OF_RANGE' });
  // @ts-expect-error the type forbids it too
  assert.throws(() => tracker.collect().bytes(5), { code: 'ERR_INVALID_ARG_TYPE' });
});
