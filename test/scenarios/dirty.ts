import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import {
  DirtyTracker,
  Region,
  Userfaultfd,
  type DirtyEngine,
  type DirtyPages,
  type Trackable,
} from '../../lib/index.js';
import { PAGE, pagesOf, resizableBuffer, seeded, sorted, touch } from './dirty-support.js';

type Track = (memory: Trackable | Trackable[]) => DirtyTracker;

function trackBy(engine: string): Track {
  return (memory) => new DirtyTracker(memory, { engine: engine as DirtyEngine });
}

/** Finalizers of native objects run in turns of the event loop after the collection. */
async function collectGarbage(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    global.gc!();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** `held`: what the program keeps, the memory itself or a Region over it. */
export async function collectedTrackers(engine: string, held: string): Promise<void> {
  const track = trackBy(engine);
  const memories = Array.from({ length: 20 }, () => new WebAssembly.Memory({ initial: 1 }));
  const regions = memories.map((memory) => Region.from(memory));
  regions.push(Region.allocate({ bytes: 8 * PAGE }));
  (() => {
    for (const [i, region] of regions.entries()) {
      const memory = memories[i];
      const tracker = track(held === 'memory' && memory !== undefined ? memory : region);
      touch(region.bytes, 1, 1);
      assert.deepEqual(pagesOf(tracker.collect()), [1]);
      if (memory === undefined && held === 'memory') tracker.close();
    }
  })();
  await collectGarbage();
  using uffd = Userfaultfd.open();
  for (const region of regions) {
    touch(region.bytes, 2, 7);
    assert.equal(region.bytes[2 * PAGE], 7);
    uffd.register(region, 'write-protect').close();
    using tracker = track(region);
    touch(region.bytes, 3, 1);
    assert.deepEqual(pagesOf(tracker.collect()), [3]);
  }
}

export async function droppedMemory(engine: string): Promise<void> {
  const track = trackBy(engine);
  const trackers: DirtyTracker[] = [];
  (() => {
    for (let i = 0; i < 50; i++) {
      // `wp-sync` takes none of V8's.
      const buffer =
        engine === 'wp-sync' ? Region.allocate({ bytes: 64 * PAGE }).buffer : new ArrayBuffer(64 * PAGE);
      const memory = new WebAssembly.Memory({ initial: 4 });
      const region = Region.allocate({ bytes: 64 * PAGE });
      trackers.push(track([buffer, memory, region]));
      for (const bytes of [new Uint8Array(buffer), new Uint8Array(memory.buffer), region.bytes])
        touch(bytes, 5, 1);
    }
  })();
  await collectGarbage();
  // Memory that was freed would be used again by these, whose writes then show in the trackers.
  const others = Array.from({ length: 200 }, () => new Uint8Array(64 * PAGE).fill(1));
  for (const tracker of trackers) {
    const dirty = tracker.collect();
    for (let memory = 0; memory < 3; memory++) {
      assert.deepEqual(
        [...dirty.of(memory)]
          .map(({ offset }) => Math.floor(offset / PAGE))
          .filter((page) => page > 0 && page < 63),
        memory === 0
          ? [...dirty.of(0)]
              .map(({ offset }) => Math.floor(offset / PAGE))
              .filter((page) => page === 4 || page === 5)
          : [5],
      );
      assert.ok(dirty.has(5 * PAGE, memory));
    }
    tracker.close();
  }
  assert.equal(others.length, 200);
  // Now nothing holds the memory any more.
  trackers.length = 0;
  await collectGarbage();
  assert.ok(new Uint8Array(64 * PAGE).fill(1).every((byte) => byte === 1));
}

/** In a process of its own: a tracker that is freed and still listed ends in a crash. */
export function emptyMemories(engine: string): void {
  const track = trackBy(engine);
  for (let round = 0; round < 20; round++) {
    const empty = Array.from({ length: 8 }, () => track(new WebAssembly.Memory({ initial: 0 })));
    for (const tracker of empty) tracker.close();
    startsClean(track);
  }
}

export function shrunkToNothing(engine: string): void {
  const track = trackBy(engine);
  for (let round = 0; round < 20; round++) {
    const buffer = resizableBuffer(4 * PAGE, 8 * PAGE);
    const tracker = track(buffer);
    buffer.resize(0);
    assert.equal(tracker.collect().isEmpty, true);
    if (round % 2 === 0) {
      buffer.resize(4 * PAGE);
      assert.deepEqual(pagesOf(tracker.collect()), [0, 1, 2, 3]);
      touch(new Uint8Array(buffer), 1, 1);
      assert.deepEqual(pagesOf(tracker.collect()), [1]);
    }
    tracker.close();
    startsClean(track);
  }
}

/** Trackers that come to lie where others were find nothing of them. */
function startsClean(track: Track): void {
  const regions = Array.from({ length: 8 }, () => Region.allocate({ bytes: 4 * PAGE }));
  const trackers = regions.map((region) => track(region));
  for (const [i, tracker] of trackers.entries()) {
    assert.deepEqual(pagesOf(tracker.collect()), [], 'a new tracker starts clean');
    touch(regions[i]!.bytes, 2, 1);
    assert.deepEqual(pagesOf(tracker.collect()), [2]);
    tracker.close();
  }
}

export async function watchThenEnd(): Promise<void> {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const tracker = new DirtyTracker(region);
  touch(region.bytes, 1, 1);
  for await (const dirty of tracker.watch({ intervalMs: 60_000 })) {
    assert.deepEqual(pagesOf(dirty), [1]);
    break;
  }
  console.log('READY');
}

/** Processor time: the machine may be busy with other things. */
function costOfTrackers(count: number): number {
  const buffer = new SharedArrayBuffer(count * 2 * PAGE);
  const before = process.cpuUsage();
  const trackers: DirtyTracker[] = [];
  for (let i = 0; i < count; i++) trackers.push(new DirtyTracker(new Uint8Array(buffer, i * 2 * PAGE, PAGE)));
  for (const tracker of trackers) tracker.close();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

export function manyTrackers(): void {
  costOfTrackers(2000);
  const few = Math.max(costOfTrackers(5000), 20);
  const many = Math.min(costOfTrackers(20_000), costOfTrackers(20_000));
  console.log({ few, many });
  // Four times as many. The square of that would be sixteen.
  assert.ok(many < 9 * few, `5,000 trackers cost ${few} ms, 20,000 ${many} ms`);
}

/** Trackers of every size and place, those of length zero too, against a plain list of what each covers. */
export function overlappingTrackers(): void {
  const pages = 512;
  const region = Region.allocate({ bytes: pages * PAGE });
  const random = seeded(11);
  const live: { tracker: DirtyTracker; first: number; count: number; written: Set<number> }[] = [];
  for (let round = 0; round < 4000; round++) {
    const choice = random(4);
    if (choice === 0) {
      const count = 1 + random(random(8) === 0 ? pages : 9);
      const first = random(pages - count + 1);
      const tracker = new DirtyTracker(region.bytes.subarray(first * PAGE, (first + count) * PAGE));
      live.push({ tracker, first, count, written: new Set() });
    } else if (choice === 1 && live.length > 30) {
      live.splice(random(live.length), 1)[0]!.tracker.close();
    } else if (choice === 2 && live.length > 0) {
      const { tracker, first, written } = live[random(live.length)]!;
      const expected = sorted(written).map((page) => page - first);
      assert.deepEqual(pagesOf(tracker.collect()), expected, `round ${round}`);
      written.clear();
    } else {
      const page = random(pages);
      touch(region.bytes, page, round);
      for (const each of live) {
        if (page >= each.first && page < each.first + each.count) each.written.add(page);
      }
    }
  }
  for (const { tracker } of live) tracker.close();
  // All of it is free again.
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect').close();
}

/** Some collect all the time and some hardly ever: what is kept for those must be all, and only, what they need. */
export function trackersThatLag(seed: string): void {
  const pages = 4096;
  const region = Region.allocate({ bytes: pages * PAGE });
  const random = seeded(Number(seed));
  const live: { tracker: DirtyTracker; first: number; count: number; written: Set<number> }[] = [];
  const attach = (): void => {
    const count = random(3) === 0 ? pages : 1 + random(pages / 2);
    const first = random(pages - count + 1);
    const tracker = new DirtyTracker(region.bytes.subarray(first * PAGE, (first + count) * PAGE));
    live.push({ tracker, first, count, written: new Set() });
  };
  const write = (first: number, count: number, step: number, byte: number): void => {
    for (let page = first; page < Math.min(pages, first + count * step); page += step) {
      touch(region.bytes, page, byte);
      for (const each of live) {
        if (page >= each.first && page < each.first + each.count) each.written.add(page);
      }
    }
  };
  const look = (index: number, how: 'collect' | 'peek', round: number): void => {
    const { tracker, first, written } = live[index]!;
    const expected = sorted(written).map((page) => page - first);
    assert.deepEqual(pagesOf(tracker[how]()), expected, `${how} of ${index} in round ${round}`);
    if (how === 'collect') written.clear();
  };
  for (let i = 0; i < 40; i++) attach();
  for (let round = 0; round < 6000; round++) {
    write(random(pages), 1 + random(3), 1 + random(2), round);
    // More ranges than are kept for others, now and then.
    if (round % 500 === 499) write(random(100), 100 + random(1900), 2, round);
    // The first three nearly always; any of them seldom.
    look(random(40) === 0 ? random(live.length) : random(3), 'collect', round);
    if (round % 37 === 0) look(random(live.length), 'peek', round);
    if (round % 101 === 0) attach();
    if (round % 103 === 0) live.splice(random(live.length), 1)[0]!.tracker.close();
  }
  for (const index of live.keys()) look(index, 'collect', -1);
  for (const index of live.keys()) look(index, 'collect', -2);
}

/** What others collected before the memory grew, and after it. */
export function trackersOfGrowingMemory(): void {
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 64 });
  // So many that they are not told one by one.
  const [eager, lazy, peeking] = Array.from({ length: 20 }, () => new DirtyTracker(memory)) as [
    DirtyTracker,
    DirtyTracker,
    DirtyTracker,
    ...DirtyTracker[],
  ];
  const writeAndCollect = (page: number): void => {
    touch(new Uint8Array(memory.buffer), page, page + 1);
    assert.deepEqual(pagesOf(eager.collect()), [page]);
  };
  for (let page = 0; page < 20; page++) writeAndCollect(page);
  const grown = Array.from({ length: 16 }, (_, i) => 64 + i);
  memory.grow(1);
  assert.deepEqual(pagesOf(eager.collect()), grown);
  for (const page of [40, 70, 79]) writeAndCollect(page);
  const all = [...Array(20).keys(), 40, ...grown];
  assert.deepEqual(pagesOf(peeking.peek()), all);
  assert.deepEqual(pagesOf(lazy.collect()), all);
  assert.deepEqual(pagesOf(peeking.collect()), all);
  assert.ok(eager.collect().isEmpty && lazy.collect().isEmpty && peeking.collect().isEmpty);
}

export async function droppedWatch(): Promise<void> {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const tracker = new DirtyTracker(region);
  const { signal } = new AbortController();
  for (let round = 0; round < 5; round++) {
    (() => {
      assert.equal(typeof tracker.watch({ signal }).next, 'function');
      assert.throws(() => tracker.watch(), { code: 'ERR_UFFD_BUSY' });
    })();
    await collectGarbage();
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  }
  // Somebody waits, who has only the promise.
  const next = tracker.watch({ intervalMs: 5, signal }).next();
  await collectGarbage();
  touch(region.bytes, 2, 1);
  const { value } = await (next as Promise<IteratorResult<DirtyPages, undefined>>);
  assert.deepEqual(pagesOf(value!), [2]);
  await collectGarbage();
  // Not disturbed by those that were collected before.
  const watching = tracker.watch({ intervalMs: 5 });
  await collectGarbage();
  assert.throws(() => tracker.watch(), { code: 'ERR_UFFD_BUSY' });
  await watching.return?.();
}

export async function longestInterval(): Promise<void> {
  const warnings: string[] = [];
  process.on('warning', ({ name }) => warnings.push(name));
  using tracker = new DirtyTracker(Region.allocate({ bytes: PAGE }));
  for (let i = 0; i < 200; i++) {
    // Floating point: such a sum less one of its parts may be more than the other.
    performance.now = () => 1000 + i * 0.037;
    const watching = tracker.watch({ intervalMs: 2 ** 31 - 1 });
    const next = watching.next();
    await watching.return?.();
    assert.equal((await next).done, true);
  }
  Reflect.deleteProperty(performance, 'now');
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(warnings, []);
}
