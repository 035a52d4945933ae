// How long a writer waits for a page of an open copy-on-write snapshot, which is copied first.

import { once } from 'node:events';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { Region, Snapshot, type SnapshotResolver } from '../../lib/index.js';
import type { Bench, BenchCase, Side } from '../harness/bench.js';
import { MIB, PAGE, populate } from '../harness/pattern.js';
import { timeEach } from '../harness/time-each.js';
import type { HammerData } from '../workers/hammer.js';

const FAULTS = 500;
/** A prime: pages are written all over the place. */
const STRIDE = 7919;
const HAMMERS = 2;
/** What the Workers write. */
const HAMMERED_BYTES = 64 * MIB;

const benchCase: BenchCase = {
  title: 'The first write to a page under a copy-on-write snapshot',
  deadlineSeconds: 300,
  needsBytes: 512 * MIB,

  async run(bench) {
    const faults = bench.count(FAULTS);
    using region = Region.allocate({ bytes: faults * PAGE, hugePages: 'never' });
    populate(region.bytes);
    const writing = (resolver: SnapshotResolver, stride?: number): Side =>
      writesUnder(region, faults, resolver, stride);
    const asleep = await bench.program('fault_loop', 'copy-on-write', 'sleeps', faults);
    await bench.row({
      name: 'resolver loop',
      rounds: 20,
      sides: {
        package: writing('loop'),
        'package, pages in order': writing('loop', 1),
        'loop in C, asleep': () => asleep.round('touch'),
      },
      targets: [{ ratio: ['package', 'loop in C, asleep'], atMost: 1.15 }],
    });
    await asleep.close();
    const spinning = await bench.program('fault_loop', 'copy-on-write', 'spins', faults);
    await bench.row({
      name: 'a loop in C that spins',
      rounds: 20,
      sides: { 'loop in C, spinning': () => spinning.round('touch') },
    });
    await spinning.close();
    const sigbus = await bench.program('in_thread', 'sigbus', faults);
    const mprotect = await bench.program('in_thread', 'mprotect', faults);
    await bench.row({
      name: 'resolver in-thread',
      rounds: 20,
      sides: {
        package: writing('in-thread'),
        'package, pages in order': writing('in-thread', 1),
        'SIGBUS in C': () => sigbus.round('touch'),
        'mprotect and SIGSEGV in C': () => mprotect.round('touch'),
      },
      targets: [
        { ratio: ['package', 'SIGBUS in C'], atMost: 1.15 },
        { ratio: ['mprotect and SIGSEGV in C', 'package'], atLeast: 1 },
        { side: 'package', statistic: 'p99', atMost: 100_000 },
      ],
    });
    await sigbus.close();
    await mprotect.close();
    await hammered(bench, faults);
  },
};

/** The first writes to the first pages of the memory, of which a snapshot was taken. */
function writesUnder(region: Region, faults: number, resolver: SnapshotResolver, stride = STRIDE): Side {
  const { bytes } = region;
  return () => {
    // The background leaves the pages to their writer.
    const snapshot = Snapshot.take(region, { mode: 'copy-on-write', resolver, bytesPerSecond: 1 });
    const times = timeEach(faults, (page) => (bytes[((page * stride) % faults) * PAGE] = 2));
    snapshot.close();
    return times;
  };
}

/** The same while Workers write the rest of the memory all the time. */
async function hammered(bench: Bench, faults: number): Promise<void> {
  const from = faults * PAGE;
  using region = Region.allocate({ bytes: from + bench.bytes(HAMMERED_BYTES), hugePages: 'never' });
  populate(region.bytes);
  const workerData: HammerData = { handle: region.handle, from };
  const hammers = Array.from(
    { length: HAMMERS },
    () => new Worker(path.join(__dirname, '..', 'workers', 'hammer.js'), { workerData }),
  );
  await Promise.all(hammers.map((worker) => once(worker, 'message')));
  const asleep = await bench.program('fault_loop', 'copy-on-write', 'sleeps', faults);
  await bench.row({
    name: `while ${HAMMERS} Workers hammer on the same memory`,
    rounds: 20,
    sides: {
      'resolver loop': writesUnder(region, faults, 'loop'),
      'resolver in-thread': writesUnder(region, faults, 'in-thread'),
      'loop in C, asleep': () => asleep.round('touch'),
    },
    targets: [
      { side: 'resolver loop', statistic: 'p99', atMost: 2_000_000 },
      { side: 'resolver in-thread', statistic: 'p99', atMost: 100_000 },
    ],
    notes: ['in C nobody else has the memory, but the Workers take their share of the processors'],
  });
  await asleep.close();
  await Promise.all(hammers.map((worker) => worker.terminate()));
}

export default benchCase;
