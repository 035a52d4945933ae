// A tracker over 16 GiB of which little is there, and what the tracker itself takes.

import assert from 'node:assert/strict';
import { constants } from 'node:buffer';
import { DirtyTracker, Region } from '../../lib/index.js';
import { held } from './compare.js';
import { PAGE, pagesOf } from './dirty-support.js';

const GIB = 2 ** 30;
const WHOLE = 16 * GIB;
const HUGE = 2 ** 21;

/** Node.js 20 has no buffer longer than 4 GiB: there it takes several. */
function regions(): Region[] {
  const each = Math.min(WHOLE, constants.MAX_LENGTH);
  return Array.from({ length: WHOLE / each }, () => Region.allocate({ bytes: each }));
}

export function sixteenGibibytes(): void {
  const all = regions();
  global.gc!();
  const before = held();
  using tracker = new DirtyTracker(all);
  tracker.collect();
  const armed = held();

  // 1 GiB of it comes to be: 128 KiB at the start of every 2 MiB, so that every page table is used.
  for (const { bytes } of all) {
    for (let at = 0; at < bytes.length; at += HUGE) bytes.fill(1, at, at + 32 * PAGE);
  }
  assert.equal(tracker.collect().byteLength, (WHOLE / HUGE) * 32 * PAGE);
  const resident = held().resident - armed.resident;
  assert.ok(resident >= GIB, `${resident} bytes are resident`);

  // One page in a hundred of those, and the last bytes on either side of 2^32.
  const wanted = new Map<number, number[]>();
  for (const [i, { bytes }] of all.entries()) {
    const offsets = new Set<number>();
    for (let at = i * PAGE; at < bytes.length; at += 8 * HUGE) offsets.add(at);
    for (const at of [2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, bytes.length - 1]) offsets.add(at);
    const inside = [...offsets].filter((at) => at < bytes.length);
    for (const at of inside) bytes[at]!++;
    wanted.set(
      i,
      [...new Set(inside.map((at) => Math.floor(at / PAGE)))].sort((a, b) => a - b),
    );
  }
  const dirty = tracker.collect();
  for (const [i, pages] of wanted) assert.deepEqual(pagesOf(dirty.of(i)), pages, `memory ${i}`);
  assert.equal(tracker.collect().isEmpty, true);

  global.gc!();
  const after = held();
  console.log(
    JSON.stringify({
      resident,
      // Beside the pages of the memory itself: the process before and after, page tables apart.
      own: after.resident - before.resident - resident,
      pageTables: armed.pageTables - before.pageTables,
      size: WHOLE,
    }),
  );
}
