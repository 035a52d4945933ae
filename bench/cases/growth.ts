// Whether cost per GiB, per tracker and per snapshot stays the same as there are more of them.

import { DirtyTracker, Region, SnapshotHistory } from '../../lib/index.js';
import { timed, type Bench, type BenchCase, type Side, type Target } from '../harness/bench.js';
import { GIB, MIB, PAGE, patternOf, populate, writePattern } from '../harness/pattern.js';
import { allocatePieces } from '../harness/pieces.js';
import { scanAddon } from '../harness/scan-addon.js';

const SIZES = [1, 2, 4, 8, 16];
const TRACKERS = [1, 10, 100, 1000];
const ENTRIES = [1, 10, 100];
const FLAT = 1.2;

const benchCase: BenchCase = {
  title: 'Growth: 1 to 16 GiB, 1 to 1,000 trackers, 1 to 100 snapshots in a history',
  deadlineSeconds: 300,
  needsBytes: 2 * GIB,

  async run(bench) {
    // First: what the others leave of a heap scatters the trackers over it.
    await trackersOfOneMemory(bench);
    await trackersOfTheirOwn(bench);
    await sizes(bench);
    await entriesOfAHistory(bench);
  },
};

/** Each side is cost per unit, and may be at most 20 % above that of the smallest and below it as much as it likes. */
function flat(names: string[]): Target[] {
  return names.slice(1).map((name) => ({ ratio: [name, names[0]!], atMost: FLAT }));
}

type Tracked = [Region, DirtyTracker][];
type Collect = (region: Region, tracker: DirtyTracker) => unknown;

/** For every tracker a page is written and collected. Each side takes as many collects, whatever their number. */
async function collectEach(
  bench: Bench,
  name: string,
  make: (count: number) => Tracked,
  bare?: Collect,
): Promise<void> {
  const collects = bench.count(Math.max(...TRACKERS));
  const collecting = (tracked: Tracked, collect: Collect): Side => {
    return () => {
      const time = timed(() => {
        for (let k = 0; k < collects; k++) {
          const [region, tracker] = tracked[k % tracked.length]!;
          region.bytes[0] = k;
          collect(region, tracker);
        }
      });
      return time / collects;
    };
  };
  const names = TRACKERS.map((count) => `${count} trackers`);
  const all = TRACKERS.map((count) => make(bench.count(count)));
  const sides = Object.fromEntries(
    all.map((tracked, i) => [names[i]!, collecting(tracked, (_region, tracker) => tracker.collect())]),
  );
  const [one, most] = [`${TRACKERS[0]} in C`, `${TRACKERS.at(-1)} in C`];
  if (bare !== undefined) {
    sides[one] = collecting(all[0]!, bare);
    sides[most] = collecting(all.at(-1)!, bare);
  }
  await bench.row({
    name,
    rounds: 60,
    sides,
    targets: flat(names),
    ratios: bare === undefined ? [] : [[most, one]],
  });
  for (const [region, tracker] of all.flat()) {
    tracker.close();
    region.close();
  }
}

async function trackersOfOneMemory(bench: Bench): Promise<void> {
  await collectEach(bench, 'A write and a collect() per tracker, all of one memory of 16 pages', (count) => {
    const region = Region.allocate({ bytes: 16 * PAGE });
    return Array.from({ length: count }, () => [region, new DirtyTracker(region, { engine: 'wp-async' })]);
  });
}

async function trackersOfTheirOwn(bench: Bench): Promise<void> {
  const inC = scanAddon(bench);
  await collectEach(
    bench,
    'The same, each of 1 MiB of its own',
    (count) =>
      Array.from({ length: count }, () => {
        const region = Region.allocate({ bytes: MIB });
        region.bytes.fill(1);
        return [region, new DirtyTracker(region, { engine: 'wp-async' })];
      }),
    (region) => inC.scan(region.bytes),
  );
}

async function sizes(bench: Bench): Promise<void> {
  const tracked = SIZES.map((gib) => {
    const pieces = allocatePieces(bench.bytes(gib * GIB), 'never');
    return { gib, pieces, tracker: new DirtyTracker(pieces, { engine: 'wp-async' }) };
  });
  const names = tracked.map(({ gib }) => `${gib} GiB`);
  const [smallest, largest] = [SIZES[0]!, SIZES.at(-1)!];
  const sides: Record<string, Side> = {};
  for (const [i, { gib, pieces, tracker }] of tracked.entries()) {
    sides[names[i]!] = () => {
      for (const { bytes } of pieces) writePattern(bytes, patternOf(bytes.length, 1, 1));
      return timed(() => tracker.collect()) / gib;
    };
  }
  for (const gib of [smallest, largest]) {
    const bytes = bench.bytes(gib * GIB);
    const bare = await bench.program('collect', bytes, 0);
    sides[`${gib} GiB in C`] = async () => {
      const [time] = await bare.round('collect', patternOf(bytes, 1, 1).count, 1);
      return time! / gib;
    };
  }
  await bench.row({
    name: 'collect() per GiB, 1 % dirty, the rest never touched',
    rounds: 20,
    sides,
    targets: flat(names),
    ratios: [[`${largest} GiB in C`, `${smallest} GiB in C`]],
    notes: [
      'in C it grows too: the page tables of 1 GiB (2 MiB) fit into the caches, those of 16 GiB do not',
    ],
  });
  for (const { tracker, pieces } of tracked) {
    tracker.close();
    for (const piece of pieces) piece.close();
  }
  await bench.row({
    name: 'Arming (new DirtyTracker) per GiB, never touched',
    rounds: 10,
    sides: Object.fromEntries(
      SIZES.map((gib, i) => [
        names[i]!,
        () => {
          const pieces = allocatePieces(bench.bytes(gib * GIB), 'never');
          let tracker: DirtyTracker | undefined;
          const time = timed(() => (tracker = new DirtyTracker(pieces, { engine: 'wp-async' })));
          tracker!.close();
          for (const piece of pieces) piece.close();
          return time / gib;
        },
      ]),
    ),
    targets: flat(names),
  });
}

/** Each history has so many entries and drops the oldest for the next. */
async function entriesOfAHistory(bench: Bench): Promise<void> {
  const histories = ENTRIES.map((count) => {
    const region = Region.allocate({ bytes: bench.bytes(64 * MIB), hugePages: 'never' });
    populate(region.bytes);
    const pattern = patternOf(region.byteLength, 1, 1);
    const history = new SnapshotHistory(region, { maxEntries: bench.count(count) });
    const change = (): void => writePattern(region.bytes, pattern);
    for (let i = 0; i <= bench.count(count); i++) {
      change();
      history.take();
    }
    return { name: `${count} entries`, region, history, change };
  });
  const names = histories.map(({ name }) => name);
  const sidesOf = (work: (history: SnapshotHistory) => unknown): Record<string, Side> =>
    Object.fromEntries(
      histories.map(({ name, history, change }) => [
        name,
        () => {
          change();
          return timed(() => work(history));
        },
      ]),
    );
  await bench.row({
    name: 'take() of 64 MiB, 1 % dirty',
    rounds: 40,
    warmUp: 5,
    sides: sidesOf((history) => history.take()),
    targets: flat(names),
  });
  await bench.row({
    name: 'restore() to the newest, 1 % dirty',
    rounds: 40,
    sides: sidesOf((history) => history.restore(history.current!)),
    targets: flat(names),
  });
  for (const { history, region } of histories) {
    history.close();
    region.close();
  }
}

export default benchCase;
