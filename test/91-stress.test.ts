// Threads bounce pages between two areas, with a lock and a counter in each page: no counter is lost.

import { test } from 'node:test';
import { RESOLVERS, runStress, STRESS_KINDS } from './support/stress.js';

for (const kind of STRESS_KINDS) {
  for (const resolve of RESOLVERS) {
    test(`it loses no counter in ${kind} memory that two threads share, faults ended by the ${resolve === 'native' ? 'loop' : 'handler'}`, async () => {
      await runStress(kind, resolve, 700);
    });
  }
}
