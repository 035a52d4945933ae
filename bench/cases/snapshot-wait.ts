// How long a writer waits for a page of an open copy-on-write snapshot, which is copied first.

import { Region, Snapshot, type SnapshotResolver } from '../../lib/index.js';
import type { BenchCase, Side } from '../harness/bench.js';
import { MIB, PAGE, populate } from '../harness/pattern.js';
import { timeEach } from '../harness/time-each.js';

const FAULTS = 500;
/** A prime: pages are written all over the place. */
const STRIDE = 7919;

const benchCase: BenchCase = {
  title: 'The first write to a page under a copy-on-write snapshot',
  deadlineSeconds: 300,
  needsBytes: 64 * MIB,

  async run(bench) {
    const faults = bench.count(FAULTS);
    using region = Region.allocate({ bytes: faults * PAGE, hugePages: 'never' });
    const { bytes } = region;
    populate(bytes);
    const writing = (resolver: SnapshotResolver, stride = STRIDE): Side => {
      return () => {
        // The background leaves the pages to their writer.
        const snapshot = Snapshot.take(region, { mode: 'copy-on-write', resolver, bytesPerSecond: 1 });
        const times = timeEach(faults, (page) => (bytes[((page * stride) % faults) * PAGE] = 2));
        snapshot.close();
        return times;
      };
    };
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
  },
};

export default benchCase;
