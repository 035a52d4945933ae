// How long a program stands still for an entry of a history, beside collecting and copying in C.

import { setTimeout } from 'node:timers/promises';
import { Region, SnapshotHistory, type SnapshotHistoryOptions } from '../../lib/index.js';
import { timed, type Bench, type BenchCase, type Side } from '../harness/bench.js';
import type { NativeProgram } from '../harness/native-program.js';
import { GIB, patternOf, populate, writePattern } from '../harness/pattern.js';

const ALL_KEPT = 'all are kept, with 50 ms between two entries';

const benchCase: BenchCase = {
  title: 'The pause of an entry of a SnapshotHistory, 1 GiB of which 1 % was written',
  deadlineSeconds: 400,
  needsBytes: 9 * GIB,

  async run(bench) {
    const bytes = bench.bytes(GIB);
    using region = Region.allocate({ bytes, hugePages: 'never' });
    populate(region.bytes);
    await entries(bench, region, 1, 'the oldest is dropped', { maxEntries: 4 });
    await entries(bench, region, 64, 'the oldest is dropped', { maxEntries: 4 });
    await entries(bench, region, 1, ALL_KEPT, {});
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
  using history = new SnapshotHistory(region, options);
  history.take();
  // Each with memory of its own: what the one has in the caches is of no use to the other.
  const programs: NativeProgram[] = [];
  const inC = async (how: string): Promise<Side> => {
    const program = await bench.program('collect', region.byteLength, 1);
    programs.push(program);
    return async () => {
      const [time, pages] = await program.round(how, pattern.count, pattern.run);
      if (pages !== pattern.count)
        throw new Error(`${pages} pages were collected in C, not ${pattern.count}`);
      return time!;
    };
  };
  await bench.row({
    name: `${run === 1 ? 'scattered' : `runs of ${run}`}, ${which}`,
    rounds: which === ALL_KEPT ? 30 : 60,
    // The first that drop another find its memory cold.
    warmUp: 6,
    sides: {
      package: async () => {
        writePattern(region.bytes, pattern);
        const time = timed(() => history.take());
        if (which === ALL_KEPT) await setTimeout(50);
        return time;
      },
      'collect, memcpy in C': await inC('keep'),
      'collect, memcpy, scan in C': await inC('keep-of-one-instant'),
      'collect, memcpy to new memory, scan in C': await inC('keep-in-new-memory'),
    },
    targets: [{ ratio: ['package', 'collect, memcpy in C'], atMost: 1.3 }],
    ratios: [
      ['package', 'collect, memcpy, scan in C'],
      ['package', 'collect, memcpy to new memory, scan in C'],
    ],
    notes: [
      'it is shown that nobody wrote meanwhile, as the second scan does in C: an entry is of one instant',
      'C copies to memory that is there, or to memory whose pages the kernel has yet to make',
    ],
  });
  for (const program of programs) await program.close();
}

export default benchCase;
