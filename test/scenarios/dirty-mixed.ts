// Everything that writes, mixed by a seeded generator, into every kind of memory, with several trackers
// and consumers that look when they like; all of it held against a plain model.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { binding, isFailure } from '../../lib/binding.js';
import { DirtyTracker, Region, type DirtyEngine, type Trackable } from '../../lib/index.js';
import {
  growableBuffer,
  lastByteOf,
  offsetOf,
  PAGE,
  pageCountOf,
  pageRun,
  pagesOf,
  PageWriter,
  resizableBuffer,
  seeded,
  sorted,
  WASM,
  wasmStore,
} from './dirty-support.js';
import { testing } from '../support/testing.js';

/** A memory and its bytes as they are now. */
interface Memory {
  source: Trackable;
  bytes: () => Uint8Array;
  /** Whether its first and last page are its own. */
  exact: boolean;
  /** Pages of the machine in one of its own: more than 1 for hugetlb. */
  unit?: number;
}

/** What was written since a tracker was looked at last, by whomever. */
type Due = Map<number, Change>;

interface Change {
  /**
   * `new`: reported whatever the bytes say, as are pages that were marked. `lost`: gone with the end of a
   * buffer that shrank, and back with zeros since; its size alone tells nobody.
   */
  how: 'written' | 'new' | 'lost';
  /** The bytes before. */
  before: Uint8Array;
}
const NOTHING = new Uint8Array(0);

/** A tracker with its consumers. */
interface Tracking {
  /** Which of the memories, in the order of the tracker. */
  memories: number[];
  due: Due[];
  readers: Reader[];
}

interface Reader {
  tracker: DirtyTracker;
  /** What others have collected and this one has not, for each memory. */
  kept: Set<number>[];
}

const [REGION, PLAIN, SHARED, RESIZABLE, GROWABLE, VIEW, MEMFD, ADVISED, PRIVATE, HUGE] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
] as const;
const HUGE_PAGE = 2 * 2 ** 20;
const MOST_RESIZABLE = 400 * PAGE;
const [MADV_COLD, MADV_PAGEOUT] = [20, 21];
const [PROT_NONE, PROT_READ_WRITE] = [0, 3];

/**
 * Ends after so many rounds and so many writes, whichever comes later. `huge`: 'hugetlb' adds memory of
 * huge pages, which somebody has reserved.
 */
export async function everythingMixed(
  rounds: string,
  seed: string,
  engineName: string,
  writes: string,
  huge: string,
): Promise<void> {
  const engine = engineName as DirtyEngine;
  const random = seeded(Number(seed));
  // `wp-sync` takes none of V8's buffers: regions stand for them, which do not grow.
  const takesAnyBuffer = engine !== 'wp-sync';
  const region = Region.allocate({ bytes: 512 * PAGE });
  assert.equal(testing().inheritOnFork(region.bytes), undefined);
  const plain = new WebAssembly.Memory({ initial: 1, maximum: 60 });
  const shared = new WebAssembly.Memory({ initial: 2, maximum: 60, shared: true });
  const resizable = takesAnyBuffer
    ? resizableBuffer(20 * PAGE, MOST_RESIZABLE)
    : (Region.allocate({ bytes: 20 * PAGE }).buffer as ReturnType<typeof resizableBuffer>);
  const growable = takesAnyBuffer
    ? growableBuffer(20 * PAGE, MOST_RESIZABLE)
    : (Region.allocate({ bytes: 32 * PAGE, shared: true }).buffer as ReturnType<typeof growableBuffer>);
  const viewed = takesAnyBuffer ? Buffer.alloc(100 * PAGE) : Region.allocate({ bytes: 100 * PAGE }).bytes;
  const view = viewed.subarray(3 * PAGE + 77, 90 * PAGE + 1234);
  const memfd = Region.allocate({ bytes: 64 * PAGE, backing: 'memfd', hugePages: 'never' });
  const alias = memfd.alias();
  const advised = Region.allocate({ bytes: 2 * HUGE_PAGE, hugePages: 'advise' });
  const copied = Region.allocate({ bytes: 64 * PAGE, backing: 'memfd', mapping: 'private' });
  const hugetlb =
    huge === 'hugetlb' ? Region.allocate({ bytes: 2 * HUGE_PAGE, backing: 'hugetlb' }) : undefined;
  const plainRegion = Region.from(plain);
  const memories: Memory[] = [
    { source: region, bytes: () => region.bytes, exact: true },
    { source: plainRegion, bytes: () => new Uint8Array(plain.buffer), exact: true },
    { source: shared, bytes: () => new Uint8Array(shared.buffer), exact: true },
    { source: resizable, bytes: () => new Uint8Array(resizable), exact: false },
    { source: growable, bytes: () => new Uint8Array(growable), exact: false },
    { source: view, bytes: () => view, exact: false },
    { source: memfd, bytes: () => memfd.bytes, exact: true },
    { source: advised, bytes: () => advised.bytes, exact: true },
    { source: copied, bytes: () => copied.bytes, exact: true },
  ];
  if (hugetlb !== undefined) {
    memories[HUGE] = { source: hugetlb, bytes: () => hugetlb.bytes, exact: true, unit: HUGE_PAGE / PAGE };
  }
  await using first = new PageWriter(shared);
  await using second = new PageWriter(shared);
  await using third = new PageWriter(growable);
  const stores = [wasmStore(plain), wasmStore(shared)];
  const file = openSync(process.execPath, 'r');

  const all = memories.map((_, i) => i);
  const trackingOf = (of: number[], consumers: number): Tracking => {
    const tracker = track(of);
    const trackers = [tracker, ...Array.from({ length: consumers }, () => tracker.consumer())];
    const readers = trackers.map((each) => ({ tracker: each, kept: of.map(() => new Set<number>()) }));
    return { memories: of, due: of.map((): Due => new Map()), readers };
  };
  const track = (of: number[]): DirtyTracker =>
    new DirtyTracker(
      of.map((i) => memories[i]!.source),
      { engine },
    );
  const whole = trackingOf(all, 2);
  const trackings = [whole, trackingOf([SHARED, REGION, VIEW, MEMFD], 0)];

  const pageBytes = (memory: number, page: number): Uint8Array => {
    const bytes = memories[memory]!.bytes();
    return bytes.subarray(offsetOf(page, bytes), lastByteOf(page, bytes) + 1);
  };
  /** All the pages that are written where these are. */
  const withNeighbours = (memory: number, pages: Iterable<number>): number[] => {
    const { unit = 1 } = memories[memory]!;
    if (unit === 1) return [...pages];
    return sorted([...pages].map((page) => Math.floor(page / unit))).flatMap((each) =>
      pageRun(each * unit, unit),
    );
  };
  let written = 0;
  /** To be called before the pages are written. */
  const willWrite = (memory: number, pages: Iterable<number>): void => {
    const asked = [...pages];
    written += asked.length;
    const list = withNeighbours(memory, asked);
    for (const { memories: of, due } of trackings) {
      const set = due[of.indexOf(memory)];
      if (set === undefined) continue;
      for (const page of list) {
        const due = set.get(page);
        if (due === undefined)
          set.set(page, { how: 'written', before: Buffer.from(pageBytes(memory, page)) });
        else if (due.how === 'lost') due.how = 'written';
      }
    }
  };
  const isNew = (memory: number, pages: Iterable<number>, to: readonly Tracking[] = trackings): void => {
    const list = [...pages];
    for (const { memories: of, due } of to) {
      for (const page of list) due[of.indexOf(memory)]?.set(page, { how: 'new', before: NOTHING });
    }
  };
  const pagesIn = (memory: number): number => pageCountOf(memories[memory]!.bytes());
  // Many writes to a look, where many are asked for.
  const most = Number(writes) > 0 ? 800 : 20;
  const some = (below: number): number[] => Array.from({ length: 1 + random(most) }, () => random(below));
  const pagesUnder = (memory: number, offset: number, length: number): number[] => {
    const lead = binding().addressInPage(memories[memory]!.bytes());
    const from = Math.floor((lead + offset) / PAGE);
    return pageRun(from, Math.floor((lead + offset + length - 1) / PAGE) - from + 1);
  };
  const grow = (memory: number, by: number, how: () => void): void => {
    const before = memories[memory]!.bytes().byteLength;
    how();
    isNew(memory, pagesUnder(memory, before, by));
  };
  /** To be called before the bytes go. */
  const willLose = (memory: number, offset: number, length: number): void => {
    for (const { memories: of, due } of trackings) {
      const set = due[of.indexOf(memory)];
      for (const page of pagesUnder(memory, offset, length)) {
        if (set?.has(page) === false)
          set.set(page, { how: 'lost', before: Buffer.from(pageBytes(memory, page)) });
      }
    }
  };
  const forget = (memory: number, isGone: (page: number) => boolean): void => {
    for (const { memories: of, due, readers } of trackings) {
      const i = of.indexOf(memory);
      if (i < 0) continue;
      for (const page of [...due[i]!.keys()]) if (isGone(page)) due[i]!.delete(page);
      for (const { kept } of readers)
        for (const page of [...kept[i]!]) if (isGone(page)) kept[i]!.delete(page);
    }
  };
  let value = 0;

  const steps: (() => void)[] = [
    function mainThreadWrites() {
      const memory = random(memories.length);
      const pages = some(pagesIn(memory));
      willWrite(memory, pages);
      for (const page of pages) {
        const bytes = pageBytes(memory, page);
        bytes[random(bytes.length)] = value++;
      }
    },
    function writesThroughTheAlias() {
      const pages = some(64);
      willWrite(MEMFD, pages);
      for (const page of pages) alias.bytes[page * PAGE + random(PAGE)] = value++;
    },
    function discardsShared() {
      const page = random(64);
      willWrite(MEMFD, [page]);
      (random(2) === 0 ? memfd : alias).discard(page * PAGE, PAGE);
    },
    function discardsAdvised() {
      const from = random(1000);
      willWrite(ADVISED, pageRun(from, 20));
      advised.discard(from * PAGE, 20 * PAGE);
    },
    function discardsCopied() {
      const page = random(60);
      willWrite(PRIVATE, pageRun(page, 3));
      copied.discard(page * PAGE, 3 * PAGE);
    },
    function mainThreadFills() {
      // Not a huge page as a whole, each time.
      const memory = random(HUGE);
      const bytes = memories[memory]!.bytes();
      const offset = random(bytes.byteLength);
      const length = 1 + random(Math.min(8 * PAGE, bytes.byteLength - offset));
      willWrite(memory, pagesUnder(memory, offset, length));
      bytes.fill(random(3), offset, offset + length);
    },
    function workersWrite() {
      for (const [writer, memory] of [
        [first, SHARED],
        [second, SHARED],
        [third, GROWABLE],
      ] as const) {
        const pages = some(Math.floor(memories[memory]!.bytes().byteLength / PAGE));
        willWrite(memory, pages);
        writer.write(pages, value++);
      }
    },
    function wasmCodeStores() {
      const which = random(2);
      const memory = which === 0 ? PLAIN : SHARED;
      for (let i = random(10); i >= 0; i--) {
        const address = random(memories[memory]!.bytes().byteLength - 4);
        willWrite(memory, pagesUnder(memory, address, 4));
        stores[which]!(address, value++);
      }
    },
    function discards() {
      const from = random(500);
      const count = 1 + random(12);
      willWrite(REGION, pageRun(from, count));
      region.discard(from * PAGE, count * PAGE);
    },
    function discardsWasm() {
      const page = random(pagesIn(PLAIN));
      willWrite(PLAIN, [page]);
      plainRegion.discard(page * PAGE, PAGE);
    },
    function readsFromAFile() {
      const memory = random(2) === 0 ? REGION : VIEW;
      const bytes = memories[memory]!.bytes();
      const offset = random(bytes.byteLength - 8 * PAGE);
      const length = 1 + random(8 * PAGE);
      willWrite(memory, pagesUnder(memory, offset, length));
      assert.equal(readSync(file, bytes, offset, length, 0), length);
    },
    function readsThroughARing() {
      const memory = [REGION, MEMFD, PRIVATE, PLAIN][random(4)]!;
      const bytes = memories[memory]!.bytes();
      const offset = random(bytes.byteLength - 4 * PAGE);
      const length = 1 + random(4 * PAGE);
      willWrite(memory, pagesUnder(memory, offset, length));
      assert.equal(testing().readByRing(-1, file, 0, bytes.subarray(offset, offset + length)), length);
    },
    function isWrittenFromOutside() {
      const memory = random(HUGE);
      const bytes = memories[memory]!.bytes();
      const offset = random(bytes.byteLength);
      const length = 1 + random(Math.min(4 * PAGE, bytes.byteLength - offset));
      willWrite(memory, pagesUnder(memory, offset, length));
      assert.equal(
        testing().writeFromOutside(bytes.subarray(offset, offset + length), value++ & 0xff),
        undefined,
      );
    },
    function fillsAtRandom() {
      const bytes = region.bytes;
      const offset = random(bytes.byteLength - PAGE);
      willWrite(REGION, pagesUnder(REGION, offset, 100));
      randomFillSync(bytes, offset, 100);
    },
    function reads() {
      const memory = random(memories.length);
      for (const page of some(pagesIn(memory))) assert.notEqual(pageBytes(memory, page)[0], -1);
    },
  ];
  const seldom: (() => void)[] = [
    function growsPlain() {
      if (pagesIn(PLAIN) < 50 * WASM) grow(PLAIN, WASM * PAGE, () => plain.grow(1));
    },
    function growsShared() {
      if (pagesIn(SHARED) < 50 * WASM) grow(SHARED, WASM * PAGE, () => shared.grow(1));
    },
    function growsBuffers() {
      const by = 1 + random(3 * PAGE);
      if (!takesAnyBuffer) return;
      if (resizable.byteLength + by <= MOST_RESIZABLE)
        grow(RESIZABLE, by, () => resizable.resize(resizable.byteLength + by));
      if (growable.byteLength + by <= MOST_RESIZABLE)
        grow(GROWABLE, by, () => growable.grow(growable.byteLength + by));
    },
    function shrinksAndIsSeen() {
      if (!takesAnyBuffer || resizable.byteLength < 20 * PAGE) return;
      // What grew before is seen first: all that a look can know of a memory is its size then.
      const look = (): void => {
        for (const { memories: of, readers } of trackings) {
          if (of.includes(RESIZABLE)) readers[0]!.tracker.peek();
        }
      };
      look();
      resizable.resize(resizable.byteLength - 1 - random(10 * PAGE));
      look();
      const count = pagesIn(RESIZABLE);
      forget(RESIZABLE, (page) => page >= count);
    },
    function shrinksAndGrowsUnseen() {
      if (!takesAnyBuffer || resizable.byteLength < 20 * PAGE) return;
      const { byteLength } = resizable;
      const by = 1 + random(10 * PAGE);
      willLose(RESIZABLE, byteLength - by, by);
      resizable.resize(byteLength - by);
      const more = Math.min(random(2) * random(3 * PAGE), MOST_RESIZABLE - byteLength);
      resizable.resize(byteLength);
      if (more > 0) grow(RESIZABLE, more, () => resizable.resize(byteLength + more));
    },
    function joinsHugePages() {
      // Not where pages are armed one by one; that loses nothing either.
      testing().collapse(advised.bytes);
      testing().collapse(region.bytes);
    },
    function isGivenToSwap() {
      const memory = random(HUGE);
      const advice = random(2) === 0 ? MADV_COLD : MADV_PAGEOUT;
      const [first, count] = [1 + random(10), 1 + random(4)];
      const bytes = memories[memory]!.bytes();
      const offset = offsetOf(first, bytes);
      testing().giveBack(bytes.subarray(offset, offset + count * PAGE), advice);
    },
    function isOutOfReachForAMoment() {
      const first = random(500);
      const part = region.bytes.subarray(first * PAGE, (first + 1 + random(12)) * PAGE);
      assert.equal(testing().protect(part, PROT_NONE), undefined);
      assert.equal(testing().protect(part, PROT_READ_WRITE), undefined);
    },
    function forks() {
      const child = testing().forkChild(region.bytes, PAGE, 0xc5, '');
      assert.ok(!isFailure(child));
      // Before and after the child writes its copies of these pages.
      const pages = some(64);
      willWrite(REGION, pages);
      for (const page of pages) region.bytes[page * PAGE] = value++;
      writeSync(child.orders, 'w');
      assert.ok(readSync(child.report, new Uint8Array(64)) > 0);
      for (const page of pages) region.bytes[page * PAGE + 1] = value++;
      writeSync(child.orders, 'x');
      closeSync(child.orders);
      closeSync(child.report);
      assert.equal(testing().reapChild(child.pid), 0);
    },
    function marks() {
      const memory = random(memories.length);
      const page = random(pagesIn(memory));
      const offset = offsetOf(page, memories[memory]!.bytes());
      whole.readers[random(3)]!.tracker.markDirty({ offset, length: 1 }, memory);
      isNew(memory, withNeighbours(memory, [page]), [whole]);
    },
    function spawns() {
      assert.equal(spawnSync('/bin/true', { stdio: 'ignore' }).status, 0);
    },
    function dropsATracker() {
      assert.equal(track([REGION, PLAIN]).peek().isEmpty, true);
      global.gc!();
    },
  ];

  let pages = 0;
  let round = 0;
  for (; round < Number(rounds) || written < Number(writes); round++) {
    const done: string[] = [];
    for (let i = 1 + random(5); i > 0; i--) {
      const from = random(15) === 0 ? seldom : steps;
      const step = from[random(from.length)]!;
      step();
      done.push(step.name);
    }
    // Finalizers of dropped trackers run in turns of the event loop.
    if (round % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    const { memories: of, due, readers } = trackings[random(trackings.length)]!;
    const { tracker, kept } = readers[random(readers.length)]!;
    const peeks = random(4) === 0;
    const dirty = peeks ? tracker.peek() : tracker.collect();
    for (const [i, memory] of of.entries()) {
      const { must, may } = writtenTo(due[i]!, memory);
      const fresh = withNeighbours(memory, must);
      const what = `round ${round}, memory ${memory}, ${peeks ? 'peek' : 'collect'} after ${done.join(', ')}`;
      const reported = pagesOf(dirty.of(i), memories[memory]!.bytes());
      pages += reported.length;
      fresh.push(...reported.filter((page) => may.has(page)));
      checkAgainst(sorted([...kept[i]!, ...fresh]), reported, memory, what);
      if (peeks) continue;
      for (const reader of readers) for (const page of fresh) reader.kept[i]!.add(page);
      kept[i]!.clear();
      due[i]!.clear();
    }
  }
  for (const { readers } of trackings) for (const { tracker } of readers) tracker.close();
  console.log(JSON.stringify({ rounds: round, writes: written, pages }));

  /** What a look reports by itself, and what it may report besides. */
  function writtenTo(due: Due, memory: number): { must: number[]; may: Set<number> } {
    const must: number[] = [];
    const may = new Set<number>();
    for (const [page, { how, before }] of due) {
      const now = pageBytes(memory, page);
      const differs = Buffer.compare(before.subarray(0, now.length), now.subarray(0, before.length)) !== 0;
      const isSeen = how === 'new' || differs || (how === 'written' && engine !== 'compare');
      if (isSeen) must.push(page);
      else if (how === 'lost' && engine !== 'compare') may.add(page);
    }
    return { must, may };
  }

  function checkAgainst(expected: number[], reported: number[], memory: number, what: string): void {
    const { exact } = memories[memory]!;
    const last = pagesIn(memory) - 1;
    if (exact || engine === 'compare') {
      assert.deepEqual(reported, expected, what);
    } else {
      // What lies beside the memory is written, too.
      const isOwn = (page: number): boolean => page > 0 && page < last;
      assert.deepEqual(reported.filter(isOwn), expected.filter(isOwn), what);
      const edges = new Set(reported);
      for (const page of expected) assert.ok(edges.has(page), `${what}: page ${page} at the edge`);
    }
  }
}
