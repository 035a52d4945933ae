// How long a program stands still for a snapshot.

import { setTimeout } from 'node:timers/promises';
import { capabilities, Region, Snapshot, Userfaultfd, type SnapshotOptions } from '../../lib/index.js';
import { timed, type Bench, type BenchCase, type Side } from '../harness/bench.js';
import { GIB, populate } from '../harness/pattern.js';

/** The background copies nothing to speak of, so that rounds do not disturb each other. */
const IDLE = { bytesPerSecond: 1 };

/** Threads of the garbage collector run for a while after so much memory was allocated. */
const QUIET_AFTER_MS = 20;

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
  const makeMemory = (): Region => {
    const region = Region.allocate({ bytes, hugePages });
    if (populated) populate(region.bytes);
    return region;
  };
  const ofNewMemory = (work: (region: Region) => number): Side => {
    return async () => {
      using region = makeMemory();
      await setTimeout(QUIET_AFTER_MS);
      return work(region);
    };
  };
  // Arming makes the page tables of memory that does not exist, and leaves them behind.
  const inTurns = populated ? ofOneMemoryEachRound(makeMemory, 3) : ofNewMemory;
  const taking = (options: SnapshotOptions) => {
    return (region: Region): number => {
      let snapshot: Snapshot | undefined;
      const time = timed(() => (snapshot = Snapshot.take(region, options)));
      snapshot!.close();
      return time;
    };
  };
  const arm = (region: Region): number => {
    using uffd = Userfaultfd.open();
    uffd.register(region, 'write-protect');
    return timed(() => uffd.writeProtect(region));
  };
  await bench.row({
    name: `copy-on-write, ${name}`,
    rounds: 20,
    sides: {
      'copy-on-write, loop': inTurns(taking({ mode: 'copy-on-write', resolver: 'loop', ...IDLE })),
      'copy-on-write, in-thread': inTurns(taking({ mode: 'copy-on-write', resolver: 'in-thread', ...IDLE })),
      'writeProtect()': inTurns(arm),
      'arm in C': inC('arm'),
      'open and arm in C': inC('open-and-arm'),
      'begin and arm in C': inC('begin-and-arm'),
    },
    ratios: [
      ['open and arm in C', 'arm in C'],
      ['begin and arm in C', 'arm in C'],
      ['copy-on-write, loop', 'arm in C'],
      ['copy-on-write, loop', 'begin and arm in C'],
      ['copy-on-write, in-thread', 'begin and arm in C'],
    ],
    targets: [
      { ratio: ['copy-on-write, loop', 'writeProtect()'], atMost: 1.15 },
      { ratio: ['copy-on-write, in-thread', 'writeProtect()'], atMost: 1.15 },
    ],
    notes: [
      ...(populated
        ? [
            'writeProtect() is the bare ioctl, of the same memory: how long it takes depends on where the pages lie',
          ]
        : ['writeProtect() is the bare ioctl']),
      'to open, in C: a userfaultfd; to begin: a thread that serves it and one that copies besides, and the room for the copy',
    ],
  });
  await bench.row({
    name: `full copy, ${name}`,
    rounds: 5,
    warmUp: 1,
    sides: {
      'snapshot in mode copy': ofNewMemory(taking({ mode: 'copy' })),
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

/** For `sides` sides that are measured once each round: memory that is made anew for a round. */
function ofOneMemoryEachRound(make: () => Region, sides: number): (work: (region: Region) => number) => Side {
  let region: Region | undefined;
  let measured = 0;
  return (work) => () => {
    region ??= make();
    const time = work(region);
    if (++measured % sides === 0) {
      region.close();
      region = undefined;
    }
    return time;
  };
}

export default benchCase;
