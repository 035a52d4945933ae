// restore() beside the same in C, and beside copying everything back.

import { Region, Snapshot } from '../../lib/index.js';
import { timed, type BenchCase } from '../harness/bench.js';
import { GIB, patternOf, populate, writePattern } from '../harness/pattern.js';

const benchCase: BenchCase = {
  title: 'restore() of 1 GiB of which 1 % was written',
  deadlineSeconds: 400,
  needsBytes: 7 * GIB,

  async run(bench) {
    const bytes = bench.bytes(GIB);
    const bare = await bench.program('collect', bytes, 1);
    using region = Region.allocate({ bytes, hugePages: 'never' });
    populate(region.bytes);
    using snapshot = Snapshot.take(region, { mode: 'copy' });
    using untracked = Region.allocate({ bytes, hugePages: 'never' });
    populate(untracked.bytes);
    const copy = Buffer.from(region.bytes);

    for (const run of [1, 64]) {
      const pattern = patternOf(bytes, 1, run);
      const inC = (how: string) => async (): Promise<number> => {
        const [time, pages] = await bare.round(how, pattern.count, pattern.run);
        if (pages !== pattern.count)
          throw new Error(`${pages} pages were put back in C, not ${pattern.count}`);
        return time!;
      };
      await bench.row({
        name: `1 % dirty, ${run === 1 ? 'scattered' : `runs of ${run}`}`,
        rounds: 40,
        sides: {
          package: () => {
            writePattern(region.bytes, pattern);
            let pages = -1;
            const time = timed(() => (pages = snapshot.restore().pages));
            if (pages !== pattern.count)
              throw new Error(`${pages} pages were put back, not ${pattern.count}`);
            return time;
          },
          'scan, memcpy, arm in C': inC('restore'),
          'collect, memcpy in C': inC('restore-armed'),
          'copy all back': () => timed(() => untracked.bytes.set(copy)),
        },
        targets: [
          { ratio: ['package', 'collect, memcpy in C'], atMost: 1.3 },
          { ratio: ['copy all back', 'package'], atLeast: 10 },
        ],
        ratios: [['package', 'scan, memcpy, arm in C']],
        notes: [
          'collect, memcpy in C arms the pages first, so that each costs a fault when it is put back; the other order costs a second scan',
        ],
      });
    }
  },
};

export default benchCase;
