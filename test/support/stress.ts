// The stress test's cases, and how one is run.

import { withHugePages } from './huge-pages.js';
import { passScenario } from './scenario.js';

/** Memory that threads can share. */
export const STRESS_KINDS = ['wasm', 'anonymous', 'memfd', 'private memfd', 'hugetlb', 'private hugetlb'];
export const RESOLVERS = ['native', 'handler'];

const HUGE_PAGES = 32;

export interface StressCounts {
  passes: number;
  faults: number;
}

export async function runStress(kind: string, resolve: string, milliseconds: number): Promise<StressCounts> {
  const run = async (): Promise<StressCounts> => {
    const { stdout } = await passScenario('stress', 'stress', {
      args: [kind, resolve, String(milliseconds)],
      nodeArgs: ['--expose-gc'],
      timeoutMs: milliseconds + 30_000,
    });
    return JSON.parse(stdout) as StressCounts;
  };
  return kind.includes('hugetlb') ? withHugePages(HUGE_PAGES, run) : run();
}
