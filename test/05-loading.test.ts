// The addon loads where it can, says what is in the way where it cannot, and is released as often as it
// is there.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXIT_CODE } from './scenarios/loading.js';
import { passScenario, runScenario } from './support/scenario.js';

/** Its name before Node.js 23.5. */
const PERMISSION = process.allowedNodeEnvironmentFlags.has('--permission')
  ? '--permission'
  : '--experimental-permission';

for (const flags of [['--no-addons'], [PERMISSION, '--allow-fs-read=*']]) {
  test(`it names the flag that is in the way: ${flags[0]}`, async () => {
    await passScenario('loading', 'disabled', { nodeArgs: flags });
  });
}

test('it works with frozen intrinsics', async () => {
  await passScenario('loading', 'frozenIntrinsics', { nodeArgs: ['--frozen-intrinsics'] });
});

test('it works where Error is frozen and stack traces are hidden', async () => {
  await passScenario('loading', 'frozenError');
});

test('it frees the sleepers of two copies of the package when the process exits, loaded twice each (A1)', async () => {
  const result = await runScenario('loading', 'exitOfTwoCopies', {
    // Each copy has a thread of the pool asleep.
    env: { UV_THREADPOOL_SIZE: '4' },
  });
  assert.equal(result.code, EXIT_CODE, `${result.stdout}${result.stderr}`);
  assert.ok(result.sinceReadyMs < 2000, `the ending took ${Math.round(result.sinceReadyMs)} ms`);
});
