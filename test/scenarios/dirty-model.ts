// What trackers say, compared with what was written, over many rounds of a seeded generator.

import assert from 'node:assert/strict';
import { DirtyTracker, Region, type DirtyPages } from '../../lib/index.js';
import { PAGE, seeded } from './dirty-support.js';

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
