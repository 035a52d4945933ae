// What a process needs that goes to the limit of mappings.

import type { ScenarioOptions } from './scenario.js';

/**
 * Node.js itself ends when it gets no memory at the limit: its collector has nothing to do there, and the
 * heap of the C library grows in place.
 */
export const ENOUGH: ScenarioOptions = {
  nodeArgs: ['--single-threaded-gc', '--min-semi-space-size=64', '--max-semi-space-size=64'],
  env: { MALLOC_ARENA_MAX: '1' },
  timeoutMs: 30_000,
};
