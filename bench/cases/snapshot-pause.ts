// How long a program stands still for a snapshot.

import { capabilities, Region, Snapshot, type SnapshotOptions } from '../../lib/index.js';
import { timed, type Bench, type BenchCase, type Side } from '../harness/bench.js';
import { GIB, populate } from '../harness/pattern.js';

/** The background copies nothing to speak of, so that rounds do not disturb each other. */
const IDLE = { bytesPerSecond: 1 };

const benchCase: BenchCase = {
  title: 'The pause of Snapshot.take(), 1 GiB',
  deadlineSeconds: 600,
  needsBytes: 5 * GIB,

  async run(bench) {
    const bytes = bench.bytes(GIB);
    for (const hugePages of ['never', 'advise'] as const) {
      if (hugePages === 'advise' && capabilities().hugePages.transparent === 'never') continue;
      for (const populated of [true, false]) {
        await pauses(bench, bytes, hugePages, populated);
      }
    }
  },
};

async function pauses(
  bench: Bench,
  bytes: number,
  hugePages: 'never' | 'advise',
  populated: boolean,
): Promise<void> {
  const name = `${populated ? 'populated' : 'never touched'}, huge pages ${hugePages === 'advise' ? 'on' : 'off'}`;
  const bare = await bench.program('copy', bytes, hugePages === 'advise' ? 1 : 0, populated ? 1 : 0);
  const inC = (how: string) => async (): Promise<number> => (await bare.round(how))[0]!;
  // Memory that stays is better or worse than another for as long as it is there: it depends on where its
  // pages happen to lie.
  const ofNewMemory = (work: (region: Region) => number): Side => {
    return () => {
      using region = Region.allocate({ bytes, hugePages });
      if (populated) populate(region.bytes);
      return work(region);
    };
  };
  const taking = (options: SnapshotOptions): Side => {
    return ofNewMemory((region) => {
      let snapshot: Snapshot | undefined;
      const time = timed(() => (snapshot = Snapshot.take(region, options)));
      snapshot!.close();
      return time;
    });
  };
  await bench.row({
    name: `copy-on-write, ${name}`,
    rounds: 20,
    sides: {
      'copy-on-write, loop': taking({ mode: 'copy-on-write', resolver: 'loop', ...IDLE }),
      'copy-on-write, in-thread': taking({ mode: 'copy-on-write', resolver: 'in-thread', ...IDLE }),
      'arm in C': inC('arm'),
    },
    targets: [
      { ratio: ['copy-on-write, loop', 'arm in C'], atMost: 1.15 },
      { ratio: ['copy-on-write, in-thread', 'arm in C'], atMost: 1.15 },
    ],
  });
  await bench.row({
    name: `full copy, ${name}`,
    rounds: 5,
    warmUp: 1,
    sides: {
      'snapshot in mode copy': taking({ mode: 'copy' }),
      'Buffer.from': ofNewMemory(({ bytes: from }) => timed(() => Buffer.from(from))),
      'arm and memcpy in C': inC('arm-and-copy'),
    },
    ratios: [
      ['snapshot in mode copy', 'arm and memcpy in C'],
      ['snapshot in mode copy', 'Buffer.from'],
    ],
  });
  await bare.close();
}

export default benchCase;
