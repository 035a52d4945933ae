// What tracking costs those who write.

import { DirtyTracker, Region } from '../../lib/index.js';
import { timed, type Bench, type BenchCase, type Target } from '../harness/bench.js';
import type { NativeProgram } from '../harness/native-program.js';
import { MIB, PAGE, populate } from '../harness/pattern.js';
import { touchFromJavaScript, touchFromWasm, type Touch } from '../harness/touch.js';

const BYTES = 64 * MIB;
/** One pass of later writes is over in half a millisecond. */
const PASSES = 10;
/** The faults of the first pass leave other things in the caches. After so many the memory has them back. */
const SETTLED = 20;
const WASM_PAGE = 65_536;

const benchCase: BenchCase = {
  title: 'Writing a byte to each page of 64 MiB: untracked, the first time, later; per page',
  deadlineSeconds: 300,
  needsBytes: 3 * BYTES,

  async run(bench) {
    const bytes = bench.bytes(BYTES);
    const bare = await bench.program('write_tax', bytes);
    using region = Region.allocate({ bytes, hugePages: 'never' });
    const memory = new WebAssembly.Memory({ initial: bytes / WASM_PAGE });
    using wasm = Region.from(memory);
    await rows(bench, 'JavaScript', region, touchFromJavaScript(region.bytes), bare);
    await rows(bench, 'Wasm', wasm, touchFromWasm(memory), bare);
  },
};

async function rows(
  bench: Bench,
  who: string,
  region: Region,
  touch: Touch,
  bare: NativeProgram,
): Promise<void> {
  populate(region.bytes);
  const pages = region.byteLength / PAGE;
  let value = 0;
  const pass = (): void => touch((value = (value + 1) % 256));
  const inC = (how: string) => async (): Promise<number> => (await bare.round(how))[0]! / pages;
  await bench.row({
    name: `First write from ${who}`,
    rounds: 60,
    sides: {
      untracked: () => timed(pass) / pages,
      first: () => {
        const tracker = new DirtyTracker(region, { engine: 'wp-async' });
        const time = timed(pass) / pages;
        tracker.close();
        return time;
      },
      'untracked in C': inC('untracked'),
      'first in C': inC('first'),
      'mprotect and SIGSEGV in C': inC('mprotect'),
    },
    derived: {
      tax: ({ first, untracked }) => first! - untracked!,
      'tax in C': (round) => round['first in C']! - round['untracked in C']!,
    },
    targets: [{ ratio: ['tax', 'tax in C'], atMost: 1.1 }],
    ratios: [['mprotect and SIGSEGV in C', 'first']],
  });
  const later = async (name: string, uncounted: number, targets: Target[]): Promise<void> => {
    const writes = (): number => {
      for (let i = 0; i < uncounted; i++) pass();
      const passes = (): void => {
        for (let i = 0; i < PASSES; i++) pass();
      };
      return timed(passes) / pages / PASSES;
    };
    const writesInC = (how: string) => async (): Promise<number> =>
      (await bare.round(how, uncounted, PASSES))[0]! / pages / PASSES;
    await bench.row({
      name: `${name} from ${who}`,
      rounds: 200,
      sides: {
        untracked: writes,
        later: () => {
          const tracker = new DirtyTracker(region, { engine: 'wp-async' });
          const time = writes();
          tracker.close();
          return time;
        },
        'untracked in C': writesInC('unwatched'),
        'later in C': writesInC('later'),
      },
      targets,
      ratios: [
        ['later', 'untracked'],
        ['later in C', 'untracked in C'],
      ],
    });
  };
  await later('Later writes', SETTLED, [{ ratio: ['later', 'untracked'], atMost: 1.02 }]);
  await later('Writes soon after the first', 2, []);
}

export default benchCase;
