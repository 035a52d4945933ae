// The table of the kernel's commit "mm/uffd: UFFD_FEATURE_WP_UNPOPULATED", from JavaScript and from C.

import { capabilities, Userfaultfd, type Feature } from '../../lib/index.js';
import { timed, type Bench, type BenchCase, type Row } from '../harness/bench.js';
import { GIB, PAGE } from '../harness/pattern.js';
import { allocatePieces } from '../harness/pieces.js';

type How = 'default' | 'pre-read' | 'madvise' | 'wp-unpopulated';
interface Armed {
  time: number;
  pages: number;
}

const BYTES = 10 * GIB;

const benchCase: BenchCase = {
  title: 'Write-protecting 10 GiB that nobody has touched: DEFAULT, PRE-READ, MADVISE, WP-UNPOPULATE',
  deadlineSeconds: 600,
  // Page tables, and the huge page of zeros.
  needsBytes: GIB,

  async run(bench) {
    for (const hugePages of ['never', 'advise'] as const) {
      if (hugePages === 'advise' && capabilities().hugePages.transparent === 'never') continue;
      await armRows(bench, hugePages);
    }
  },
};

async function armRows(bench: Bench, hugePages: 'never' | 'advise'): Promise<void> {
  const bytes = bench.bytes(BYTES);
  const bare = await bench.program('arm', bytes, hugePages === 'advise' ? 1 : 0);
  const pages = new Map<string, number>();
  const fromJavaScript = (how: 'default' | 'pre-read' | 'wp-unpopulated'): number => {
    const armed = arm(bytes, hugePages, how);
    pages.set(how, armed.pages);
    return armed.time;
  };
  const inC = async (how: How): Promise<number> => {
    const [time, , armed] = await bare.round(how);
    pages.set(`C ${how}`, armed!);
    return time!;
  };
  const notes =
    (...names: string[]) =>
    (): string[] =>
      names.map(
        (name) =>
          `${name}: ${pages.get(name)!.toLocaleString('en')} pages armed${pages.get(name) === 0 ? ': NOTHING' : ''}`,
      );
  const row = (
    name: string,
    own: () => number,
    how: How,
    rounds: number,
    targets: Row['targets'] = [],
  ): Promise<void> =>
    bench.row({
      name: `${name}, huge pages ${hugePages === 'advise' ? 'on' : 'off'}`,
      rounds,
      warmUp: 1,
      sides: { package: own, C: () => inC(how) },
      ratios: [['package', 'C']],
      targets,
      notes: notes(how === 'madvise' ? 'wp-unpopulated' : how, `C ${how}`),
    });

  await row('DEFAULT', () => fromJavaScript('default'), 'default', 20);
  await row('WP-UNPOPULATE', () => fromJavaScript('wp-unpopulated'), 'wp-unpopulated', 20, [
    { ratio: ['package', 'C'], atMost: 1.05 },
  ]);
  await bench.row({
    name: `PRE-READ and MADVISE, huge pages ${hugePages === 'advise' ? 'on' : 'off'}`,
    rounds: 5,
    warmUp: 1,
    sides: {
      'WP-UNPOPULATE': () => fromJavaScript('wp-unpopulated'),
      'PRE-READ': () => fromJavaScript('pre-read'),
      'PRE-READ in C': () => inC('pre-read'),
      'MADVISE in C': () => inC('madvise'),
    },
    targets:
      hugePages === 'never'
        ? [
            { ratio: ['PRE-READ', 'WP-UNPOPULATE'], atLeast: 15 },
            { ratio: ['MADVISE in C', 'WP-UNPOPULATE'], atLeast: 15 },
          ]
        : [],
    ratios: [
      ['PRE-READ', 'WP-UNPOPULATE'],
      ['MADVISE in C', 'WP-UNPOPULATE'],
      ['PRE-READ', 'PRE-READ in C'],
    ],
    notes: notes('wp-unpopulated', 'pre-read', 'C pre-read', 'C madvise'),
  });
}

/** Everything but the arming (and what makes the pages exist) is outside of the time. */
function arm(
  bytes: number,
  hugePages: 'never' | 'advise',
  how: 'default' | 'pre-read' | 'wp-unpopulated',
): Armed {
  const optionalFeatures: Feature[] = how === 'wp-unpopulated' ? ['WP_UNPOPULATED'] : [];
  using uffd = Userfaultfd.open({ optionalFeatures });
  const pieces = allocatePieces(bytes, hugePages);
  for (const piece of pieces) uffd.register(piece, 'write-protect');
  const time = timed(() => {
    for (const piece of pieces) {
      if (how === 'pre-read') readEachPage(piece.bytes);
      uffd.writeProtect(piece);
    }
  });
  const pages = pieces.reduce((sum, piece) => sum + uffd.armedPages(piece), 0);
  for (const piece of pieces) piece.close();
  return { time, pages };
}

function readEachPage(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += PAGE) sum += bytes[at]!;
  return sum;
}

export default benchCase;
