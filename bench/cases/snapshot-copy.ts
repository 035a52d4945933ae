// The pause of a snapshot that copies everything: the price that copy-on-write is measured against.

import { capabilities, Region, Snapshot } from '../../lib/index.js';
import { timed, type BenchCase } from '../harness/bench.js';
import { GIB, populate } from '../harness/pattern.js';

const benchCase: BenchCase = {
  title: "Snapshot.take() in mode 'copy', 1 GiB",
  deadlineSeconds: 240,
  needsBytes: 5 * GIB,

  async run(bench) {
    const bytes = bench.bytes(GIB);
    for (const hugePages of ['never', 'advise'] as const) {
      if (hugePages === 'advise' && capabilities().hugePages.transparent === 'never') continue;
      for (const populated of [true, false]) {
        using region = Region.allocate({ bytes, hugePages });
        if (populated) populate(region.bytes);
        const bare = await bench.program('copy', bytes, hugePages === 'advise' ? 1 : 0, populated ? 1 : 0);
        await bench.row({
          name: `${populated ? 'populated' : 'never touched'}, huge pages ${hugePages === 'advise' ? 'on' : 'off'}`,
          rounds: 6,
          warmUp: 1,
          sides: {
            'snapshot in mode copy': () => {
              let snapshot: Snapshot | undefined;
              const time = timed(() => (snapshot = Snapshot.take(region, { mode: 'copy' })));
              snapshot!.close();
              return time;
            },
            'Buffer.from (user)': () => timed(() => Buffer.from(region.bytes)),
            'arm and memcpy in C': async () => (await bare.round('arm-and-copy'))[0]!,
            'arm in C': async () => (await bare.round('arm'))[0]!,
          },
          ratios: [
            ['snapshot in mode copy', 'arm and memcpy in C'],
            ['snapshot in mode copy', 'Buffer.from (user)'],
            ['snapshot in mode copy', 'arm in C'],
          ],
        });
        await bare.close();
      }
    }
  },
};

export default benchCase;
