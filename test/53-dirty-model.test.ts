import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE } from './scenarios/dirty-support.js';
import { withHugePages } from './support/huge-pages.js';
import { passScenario, type ScenarioResult } from './support/scenario.js';

/** Fewer for a quick look, more for a long one. */
const ROUNDS = Number(process.env['UFFD_TEST_ROUNDS'] ?? 1000);
/** At least so many in each of the mixed runs: `npm run model` makes it 10 million. */
const WRITES = Number(process.env['UFFD_TEST_WRITES'] ?? 0);

test(`it collects exactly the 1 % of 1 GiB that was written, ${ROUNDS} rounds`, async () => {
  const result = await passScenario('dirty-model', 'onePercent', {
    args: [String(ROUNDS), '1'],
    timeoutMs: 60_000 + ROUNDS * 100,
  });
  const shown = JSON.parse(result.stdout) as { rounds: number; pages: number };
  assert.deepEqual(shown, { rounds: ROUNDS, pages: ROUNDS * Math.round(2 ** 30 / PAGE / 100) });
});

for (const engine of ['wp-async', 'wp-sync', 'compare']) {
  for (const [seed, huge] of [
    ['1', 'no'],
    ['2', 'hugetlb'],
  ] as const) {
    const more = huge === 'no' ? '' : ', with hugetlb memory';
    test(`it agrees with a plain model, whatever writes and whoever looks: ${engine}, seed ${seed}${more}`, async (t) => {
      const rounds = Math.ceil(ROUNDS / 2);
      const run = (): Promise<ScenarioResult> =>
        passScenario('dirty-mixed', 'everythingMixed', {
          args: [String(rounds), seed, engine, String(WRITES), huge],
          nodeArgs: ['--expose-gc'],
          timeoutMs: 60_000 + rounds * 50 + WRITES,
        });
      const result = huge === 'no' ? await run() : await withHugePages(4, run);
      t.diagnostic(result.stdout.trim());
      const shown = JSON.parse(result.stdout) as { rounds: number; writes: number; pages: number };
      assert.ok(shown.rounds >= rounds && shown.writes >= WRITES);
      assert.ok(shown.pages > rounds, 'there was something to report');
    });
  }
}
