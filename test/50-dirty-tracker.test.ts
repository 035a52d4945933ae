import { describe, test } from 'node:test';
import { everythingHolds } from './support/every-engine.js';
import { ENGINES } from './support/privilege.js';
import { passScenario } from './support/scenario.js';

/** What each of them does differently is said where it matters. */
for (const engine of ENGINES) {
  describe(engine, () => everythingHolds(engine));
}

test('it costs about the same for each of 20,000 trackers as for each of 5,000', async () => {
  await passScenario('dirty', 'manyTrackers', { timeoutMs: 60_000 });
});

test('it gives each of many overlapping trackers what was written in its own pages (B19)', async () => {
  await passScenario('dirty', 'overlappingTrackers', { timeoutMs: 30_000 });
});
