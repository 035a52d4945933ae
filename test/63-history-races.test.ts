import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { passScenario } from './support/scenario.js';

/** Fewer for a quick look, more for a long one. */
const ROUNDS = Number(process.env['UFFD_TEST_ROUNDS'] ?? 250);

for (const engine of ['wp-async', 'compare']) {
  for (const limit of ['', '4']) {
    test(`it agrees with plain copies whatever happens: ${engine}, ${limit || 'no'} limit`, async () => {
      const { stdout } = await passScenario('history-model', 'historyAgainstModel', {
        args: [String(ROUNDS), limit === '' ? '1' : '2', engine, limit],
        timeoutMs: 60_000 + ROUNDS * 50,
      });
      assert.equal((JSON.parse(stdout) as { rounds: number }).rounds, ROUNDS);
    });
  }
}

for (const kind of ['wasm', 'both', 'large buffer']) {
  test(`it takes 100 entries, each of one instant, while two Workers write and pause: ${kind} (B5)`, async () => {
    await passScenario('history-races', 'entriesWithPauses', { args: [kind], timeoutMs: 60_000 });
  });

  test(`an entry is of one instant or refused while two Workers never pause: ${kind} (B5, B8)`, async () => {
    await passScenario('history-races', 'entriesWithoutPauses', { args: [kind], timeoutMs: 60_000 });
  });

  test(`it never calls a page clean that a Worker wrote during restore(): ${kind}`, async () => {
    await passScenario('history-races', 'historyRestoreAgainstWriters', { args: [kind], timeoutMs: 60_000 });
  });
}

test('50 statements of Python, an entry after each, and 200 times back to any of them: values and bytes are right', async () => {
  const { stdout } = await passScenario('history-python', 'everyStatementUndone', { timeoutMs: 120_000 });
  assert.equal((JSON.parse(stdout) as { size: number }).size, 51);
});

test('undoing Python is an example that runs', () => {
  const example = path.join(__dirname, '..', '..', 'examples', 'undo-python.mjs');
  const { status, stdout, stderr } = spawnSync(process.execPath, [example], { timeout: 60_000 });
  assert.equal(status, 0, String(stderr));
  assert.match(
    String(stdout),
    /^primes is \[2, 3, 5, 7, 9\]\nprimes is \[2, 3, 5, 7\]\na broken interpreter is whole again: \d+ pages, .*\nprimes is \[2, 3, 5, 7, 11\]\n/,
  );
});
