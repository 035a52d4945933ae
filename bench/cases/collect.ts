// collect() beside the bare ioctl, and beside finding out by comparing.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { DirtyTracker, Region, type DirtyPages } from '../../lib/index.js';
import { timed, type BenchCase, type Side } from '../harness/bench.js';
import { GIB, PAGE, patternOf, populate, writePattern, type Pattern } from '../harness/pattern.js';
import { scanAddon, type ScanAddon } from '../harness/scan-addon.js';

/** How much was written, and how many pages of it lie in a row. */
interface Rate {
  percent: number;
  run: number;
}

const SCATTERED: Rate = { percent: 1, run: 1 };
const RATES: Rate[] = [
  { percent: 0, run: 1 },
  SCATTERED,
  { percent: 1, run: 64 },
  { percent: 10, run: 1 },
  { percent: 10, run: 64 },
  { percent: 100, run: 1 },
];

const BARE = 'bare ioctl';
const READ = 'package, and every range is read';
const HANDED_OVER = 'ioctl in C, the ranges in new memory';

const benchCase: BenchCase = {
  title: 'collect(), 1 GiB of 4 KiB pages, beside PAGEMAP_SCAN in C and beside comparing',
  deadlineSeconds: 400,
  needsBytes: 4 * GIB,

  async run(bench) {
    const bytes = bench.bytes(GIB);
    using region = Region.allocate({ bytes, hugePages: 'never' });
    populate(region.bytes);
    using tracker = new DirtyTracker(region, { engine: 'wp-async' });
    tracker.collect();
    const inC = scanAddon(bench);

    collectForAWhile();
    const collects = (
      of: DirtyTracker,
      pattern: Pattern,
      read: (dirty: DirtyPages) => void = () => {},
    ): Side => {
      return () => {
        writePattern(region.bytes, pattern);
        let dirty: DirtyPages | undefined;
        const time = timed(() => read((dirty = of.collect())));
        const pages = dirty!.pageCount;
        if (pages !== pattern.count) throw new Error(`${pages} pages were collected, not ${pattern.count}`);
        return time;
      };
    };
    const collectsInC = (how: keyof ScanAddon, pattern: Pattern): Side => {
      return () => {
        writePattern(region.bytes, pattern);
        const { time, pages } = inC[how](region.bytes);
        if (pages !== pattern.count)
          throw new Error(`${pages} pages were collected in C, not ${pattern.count}`);
        return time;
      };
    };

    const row = async (name: string, { percent, run }: Rate, notes: string[] = []): Promise<void> => {
      const pattern = patternOf(bytes, percent, run);
      await bench.row({
        name,
        rounds: percent === 100 ? 20 : 60,
        sides: {
          package: collects(tracker, pattern),
          [READ]: collects(tracker, pattern, readRanges),
          [BARE]: collectsInC('scan', pattern),
          [HANDED_OVER]: collectsInC('handOver', pattern),
        },
        targets: [{ ratio: ['package', BARE], atMost: percent === 0 ? 1.2 : 1.1 }],
        ratios: [
          [READ, 'package'],
          ['package', HANDED_OVER],
          [HANDED_OVER, BARE],
        ],
        notes,
      });
    };

    for (const rate of RATES) {
      const { percent, run } = rate;
      const how = run === 1 ? ', scattered' : `, runs of ${run}`;
      await row(`${percent} % dirty${percent === 0 || percent === 100 ? '' : how}`, rate);
    }
    const busy = await busyWorker();
    await row('1 % dirty, scattered, while a Worker is busy', SCATTERED, [
      'for each 2 MiB in which a page was written the kernel interrupts every processor that runs a thread of this process',
    ]);
    await busy.terminate();

    const pattern = patternOf(bytes, SCATTERED.percent, SCATTERED.run);
    using comparing = new DirtyTracker(region, { engine: 'compare' });
    const copy = Buffer.from(region.bytes);
    await bench.row({
      name: '1 % dirty, scattered, beside what works without userfaultfd',
      rounds: 6,
      warmUp: 1,
      sides: {
        package: collects(tracker, pattern),
        compare: collects(comparing, pattern),
        'memcmp and copy': () => {
          writePattern(region.bytes, pattern);
          return timed(() => compareAndCopy(region.bytes, copy));
        },
        'sha1 of each page': () => timed(() => hashPages(region.bytes)),
      },
      targets: [{ ratio: ['compare', 'package'], atLeast: 40 }],
      ratios: [
        ['memcmp and copy', 'package'],
        ['sha1 of each page', 'package'],
      ],
    });
  },
};

/** V8 compiles what a program calls often; a tracker is asked again and again. */
function collectForAWhile(): void {
  using region = Region.allocate({ bytes: 16 * PAGE });
  using tracker = new DirtyTracker(region, { engine: 'wp-async' });
  for (let i = 0; i < 3000; i++) {
    region.bytes[(i % 16) * PAGE]!++;
    timed(() => readRanges(tracker.collect()));
  }
}

/** As who copies them would. */
function readRanges(dirty: DirtyPages): number {
  let bytes = 0;
  for (const { offset, length } of dirty) bytes += offset + length;
  return bytes;
}

/** It computes, and does nothing with the memory. */
async function busyWorker(): Promise<Worker> {
  const code = `require('node:worker_threads').parentPort.postMessage(''); for (;;);`;
  const worker = new Worker(code, { eval: true });
  await once(worker, 'message');
  return worker;
}

/** What one would write with Node.js alone. */
function compareAndCopy(live: Uint8Array, copy: Buffer): number {
  let differ = 0;
  for (let at = 0; at < live.length; at += PAGE) {
    if (copy.compare(live, at, at + PAGE, at, at + PAGE) === 0) continue;
    copy.set(live.subarray(at, at + PAGE), at);
    differ++;
  }
  return differ;
}

function hashPages(live: Uint8Array): string {
  let last = '';
  for (let at = 0; at < live.length; at += PAGE) {
    last = createHash('sha1')
      .update(live.subarray(at, at + PAGE))
      .digest('base64');
  }
  return last;
}

export default benchCase;
