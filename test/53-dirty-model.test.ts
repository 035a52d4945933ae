import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE } from './scenarios/dirty-support.js';
import { passScenario } from './support/scenario.js';

/** Fewer for a quick look, more for a long one. */
const ROUNDS = Number(process.env['UFFD_TEST_ROUNDS'] ?? 1000);

test(`it collects exactly the 1 % of 1 GiB that was written, ${ROUNDS} rounds`, async () => {
  const result = await passScenario('dirty-model', 'onePercent', {
    args: [String(ROUNDS), '1'],
    timeoutMs: 60_000 + ROUNDS * 100,
  });
  const shown = JSON.parse(result.stdout) as { rounds: number; pages: number };
  assert.deepEqual(shown, { rounds: ROUNDS, pages: ROUNDS * Math.round(2 ** 30 / PAGE / 100) });
});

for (const engine of ['wp-async', 'compare']) {
  for (const seed of [1, 2]) {
    test(`it agrees with a plain model, whatever writes and whoever looks: ${engine}, seed ${seed}`, async () => {
      const rounds = Math.ceil(ROUNDS / 2);
      const result = await passScenario('dirty-mixed', 'everythingMixed', {
        args: [String(rounds), String(seed), engine],
        nodeArgs: ['--expose-gc'],
        timeoutMs: 60_000 + rounds * 50,
      });
      const shown = JSON.parse(result.stdout) as { rounds: number; pages: number };
      assert.equal(shown.rounds, rounds);
      assert.ok(shown.pages > rounds, 'there was something to report');
    });
  }
}
