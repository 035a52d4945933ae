// What trackers say, compared with what was written, over many rounds of a seeded generator.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { openSync, readSync } from 'node:fs';
import { DirtyTracker, Region, type DirtyPages } from '../../lib/index.js';
import { PAGE, pagesOf, PageWriter, seeded, sorted, touch, WASM } from './dirty-support.js';

const GIB = 2 ** 30;

/** 1 GiB, 1 % of its pages written at random in each round: collect() returns exactly those. */
export function onePercent(rounds: string, seed: string): void {
  const region = Region.allocate({ bytes: GIB });
  const { bytes } = region;
  const pages = GIB / PAGE;
  const share = Math.round(pages / 100);
  const random = seeded(Number(seed));
  // The round in which a page was written last.
  const writtenIn = new Uint32Array(pages);
  using tracker = new DirtyTracker(region);
  let shown = 0;
  for (let round = 1; round <= Number(rounds); round++) {
    for (let written = 0; written < share;) {
      const page = random(pages);
      if (writtenIn[page] === round) continue;
      writtenIn[page] = round;
      bytes[page * PAGE + random(PAGE)] = round;
      written++;
    }
    shown += compare(tracker.collect(), writtenIn, round, share);
  }
  assert.equal(tracker.collect().isEmpty, true);
  console.log(JSON.stringify({ rounds: Number(rounds), pages: shown }));
}

/** Every reported page was written in this round, each once; as many as were written means all of them. */
function compare(dirty: DirtyPages, writtenIn: Uint32Array, round: number, expected: number): number {
  let count = 0;
  let next = 0;
  for (const { offset, length } of dirty) {
    assert.ok(
      offset >= next && offset % PAGE === 0 && length % PAGE === 0,
      `round ${round}: range ${offset}+${length}`,
    );
    next = offset + length;
    for (let page = offset / PAGE; page < next / PAGE; page++) {
      if (writtenIn[page] !== round) assert.fail(`round ${round}: page ${page} was not written`);
      count++;
    }
  }
  assert.equal(count, expected, `round ${round}: pages missed`);
  assert.equal(dirty.pageCount, expected);
  return count;
}

/** One tracker and, for each of its memories, what it has to say. */
interface Look {
  tracker: DirtyTracker;
  /** Which of the memories, in the order of the tracker. */
  memories: number[];
  due: Set<number>[];
}

/** Everything that writes, mixed; two trackers that share a memory, each looking when it likes. */
export async function everythingMixed(rounds: string, seed: string): Promise<void> {
  const random = seeded(Number(seed));
  const region = Region.allocate({ bytes: 512 * PAGE });
  const plain = new WebAssembly.Memory({ initial: 1, maximum: 200 });
  const shared = new WebAssembly.Memory({ initial: 2, maximum: 200, shared: true });
  await using first = new PageWriter(shared);
  await using second = new PageWriter(shared);
  const file = openSync(process.execPath, 'r');
  const plainRegion = Region.from(plain);

  using whole = new DirtyTracker([region, plainRegion, shared]);
  using part = new DirtyTracker([shared, region]);
  const looks: Look[] = [
    { tracker: whole, memories: [0, 1, 2], due: [new Set(), new Set(), new Set()] },
    { tracker: part, memories: [2, 0], due: [new Set(), new Set()] },
  ];
  const wrote = (memory: number, pages: Iterable<number>): void => {
    const all = [...pages];
    for (const { memories, due } of looks) {
      const set = due[memories.indexOf(memory)];
      for (const page of set === undefined ? [] : all) set!.add(page);
    }
  };
  const some = (below: number): number[] => Array.from({ length: 1 + random(20) }, () => random(below));
  const sizeOf = (memory: WebAssembly.Memory): number => memory.buffer.byteLength / PAGE;
  const run = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i);
  let value = 0;

  const steps: (() => void)[] = [
    function mainThreadWrites() {
      const pages = some(512);
      for (const page of pages) region.bytes[page * PAGE + random(PAGE)] = value++;
      wrote(0, pages);
    },
    function mainThreadWritesWasm() {
      const pages = some(sizeOf(plain));
      for (const page of pages) touch(new Uint8Array(plain.buffer), page, value++);
      wrote(1, pages);
    },
    function workersWrite() {
      for (const writer of [first, second]) {
        const pages = some(sizeOf(shared));
        writer.write(pages, value++);
        wrote(2, pages);
      }
    },
    function discards() {
      const from = random(500);
      const count = 1 + random(12);
      region.discard(from * PAGE, count * PAGE);
      wrote(0, run(from, count));
    },
    function discardsWasm() {
      const page = random(sizeOf(plain));
      plainRegion.discard(page * PAGE, PAGE);
      wrote(1, [page]);
    },
    function readsFromAFile() {
      const offset = random(500 * PAGE);
      const length = 1 + random(8 * PAGE);
      assert.equal(readSync(file, region.bytes, offset, length, 0), length);
      const from = Math.floor(offset / PAGE);
      wrote(0, run(from, Math.floor((offset + length - 1) / PAGE) - from + 1));
    },
    function reads() {
      for (const page of some(512)) assert.notEqual(region.bytes[page * PAGE], -1);
    },
  ];
  const seldom: (() => void)[] = [
    function growsPlain() {
      if (sizeOf(plain) < 190 * WASM) wrote(1, run(plain.grow(1) * WASM, WASM));
    },
    function growsShared() {
      if (sizeOf(shared) < 190 * WASM) wrote(2, run(shared.grow(1) * WASM, WASM));
    },
    function spawns() {
      assert.equal(spawnSync('/bin/true', { stdio: 'ignore' }).status, 0);
    },
  ];

  for (let round = 0; round < Number(rounds); round++) {
    const done: string[] = [];
    for (let i = 1 + random(5); i > 0; i--) {
      const from = random(20) === 0 ? seldom : steps;
      const step = from[random(from.length)]!;
      step();
      done.push(step.name);
    }
    const { tracker, memories, due } = looks[random(looks.length)]!;
    const peeks = random(4) === 0;
    const dirty = peeks ? tracker.peek() : tracker.collect();
    for (const [i, memory] of memories.entries()) {
      assert.deepEqual(
        pagesOf(dirty.of(i)),
        sorted(due[i]!),
        `round ${round}, memory ${memory}, ${peeks ? 'peek' : 'collect'} after ${done.join(', ')}`,
      );
      if (!peeks) due[i]!.clear();
    }
  }
  console.log(JSON.stringify({ rounds: Number(rounds) }));
}
