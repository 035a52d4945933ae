// What an entry, a restore and an undo cost, beside the bare calls and beside copying everything.

import assert from 'node:assert/strict';
import { DirtyTracker, Region, SnapshotHistory } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { PAGE, seeded } from './dirty-support.js';

const MIB = 2 ** 20;

/** Milliseconds of CPU time: the machine may be busy with other things. */
export function timed(work: () => unknown): number {
  const started = process.cpuUsage();
  work();
  const used = process.cpuUsage(started);
  return (used.user + used.system) / 1000;
}

/** Milliseconds. */
export function percentiles(times: number[]): { p50: number; p90: number; max: number } {
  const ordered = [...times].sort((a, b) => a - b);
  const at = (share: number): number =>
    Number(ordered[Math.min(ordered.length - 1, Math.floor(ordered.length * share))]!.toFixed(3));
  return { p50: at(0.5), p90: at(0.9), max: at(1) };
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}

/** Changes one byte in a hundredth of the pages. */
function dirtyOnePercent(bytes: Uint8Array, random: (below: number) => number): void {
  const pages = bytes.byteLength / PAGE;
  for (let i = 0; i < pages / 100; i++) bytes[random(pages) * PAGE + random(PAGE)]!++;
}

function resident(mib: number): Region {
  const region = Region.allocate({ bytes: mib * MIB, hugePages: 'never' });
  for (let offset = 0; offset < region.byteLength; offset += PAGE) region.bytes[offset] = 1 + (offset % 251);
  return region;
}

/** Entries at 1 % dirty beside the bare collect and copy of those pages, in turns. */
export function pauseOfAnEntry(mibText: string, roundsText: string, maxEntries: string): void {
  const random = seeded(1);
  const region = resident(Number(mibText));
  const bare = resident(Number(mibText));
  const copy = resident(Number(mibText));
  using history = new SnapshotHistory(region, maxEntries === '' ? {} : { maxEntries: Number(maxEntries) });
  using tracker = new DirtyTracker(bare);
  const first = timed(() => history.take());
  const times = { entry: [] as number[], bare: [] as number[], ratio: [] as number[] };
  for (let round = 0; round < Number(roundsText); round++) {
    dirtyOnePercent(region.bytes, random);
    const entry = timed(() => history.take());
    dirtyOnePercent(bare.bytes, random);
    const bareCopy = timed(() => testing().collectAndCopy(bare.bytes, copy.bytes));
    if (round < 3) continue;
    times.entry.push(entry);
    times.bare.push(bareCopy);
    times.ratio.push(entry / bareCopy);
  }
  assert.equal(tracker.engine, 'wp-async');
  console.log(
    JSON.stringify({
      mib: Number(mibText),
      first,
      entry: percentiles(times.entry),
      bare: percentiles(times.bare),
      medianRatio: median(times.ratio),
    }),
  );
}

/** What an entry of the same writes takes, and a restore to it, when there are few others and many. */
export function flatOverEntries(mibText: string, countText: string): void {
  const random = seeded(2);
  const region = resident(Number(mibText));
  using history = new SnapshotHistory(region);
  const first = history.take();
  const count = Number(countText);
  const take: number[] = [];
  const restore: number[] = [];
  const bytes: number[] = [];
  for (let i = 0; i < count; i++) {
    dirtyOnePercent(region.bytes, random);
    const before = history.bytes;
    take.push(timed(() => history.take()));
    bytes.push(history.bytes - before);
    restore.push(timed(() => history.undo()));
    history.redo();
  }
  const tenth = Math.ceil(count / 10);
  const ends = (values: number[]): number[] => [
    median(values.slice(1, 1 + tenth)),
    median(values.slice(-tenth)),
  ];
  const [few, many] = ends(bytes);
  assert.ok(many! < few! * 1.2 && few! < many! * 1.2, `${few} bytes an entry, then ${many}`);
  history.restore(first);
  assert.equal(history.diff(first).isEmpty, true);
  console.log(JSON.stringify({ count, bytes: ends(bytes), take: ends(take), undo: ends(restore) }));
}
