// How long a program stands still for an entry of a history, beside collecting and copying in C.

import { Region, SnapshotHistory, type SnapshotHistoryOptions } from '../../lib/index.js';
import { timed, type Bench, type BenchCase } from '../harness/bench.js';
import { GIB, patternOf, populate, writePattern } from '../harness/pattern.js';

const benchCase: BenchCase = {
  title: 'The pause of an entry of a SnapshotHistory, 1 GiB of which 1 % was written',
  deadlineSeconds: 400,
  needsBytes: 5 * GIB,

  async run(bench) {
    const bytes = bench.bytes(GIB);
    using region = Region.allocate({ bytes, hugePages: 'never' });
    populate(region.bytes);
    await entries(bench, region, 1, 'the oldest is dropped', { maxEntries: 4 });
    await entries(bench, region, 64, 'the oldest is dropped', { maxEntries: 4 });
    await entries(bench, region, 1, 'all are kept', {});
  },
};

async function entries(
  bench: Bench,
  region: Region,
  run: number,
  which: string,
  options: SnapshotHistoryOptions,
): Promise<void> {
  const pattern = patternOf(region.byteLength, 1, run);
  const bare = await bench.program('collect', region.byteLength, 1);
  using history = new SnapshotHistory(region, options);
  history.take();
  const inC = (how: string) => async (): Promise<number> => {
    const [time, pages] = await bare.round(how, pattern.count, pattern.run);
    if (pages !== pattern.count) throw new Error(`${pages} pages were collected in C, not ${pattern.count}`);
    return time!;
  };
  await bench.row({
    name: `${run === 1 ? 'scattered' : `runs of ${run}`}, ${which}`,
    rounds: 30,
    // The first that drop another find its memory cold.
    warmUp: 6,
    sides: {
      package: () => {
        writePattern(region.bytes, pattern);
        return timed(() => history.take());
      },
      'collect, memcpy in C': inC('keep'),
      'collect in C': inC('collect'),
    },
    targets: [{ ratio: ['package', 'collect, memcpy in C'], atMost: 1.3 }],
    ratios: [['collect in C', 'collect, memcpy in C']],
    notes: [
      'an entry scans a second time, which shows that nobody wrote while it copied; C copies to memory that is there',
    ],
  });
  await bare.close();
}

export default benchCase;
