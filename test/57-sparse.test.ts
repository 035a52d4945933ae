import assert from 'node:assert/strict';
import { test } from 'node:test';
import { passScenario } from './support/scenario.js';

interface Cost {
  resident: number;
  own: number;
  pageTables: number;
  size: number;
}

test('it is right beyond 2^32 in 16 GiB of sparse memory, and takes below 0.5 % of what is resident (B22)', async () => {
  const { stdout } = await passScenario('sparse', 'sixteenGibibytes', {
    timeoutMs: 60_000,
    nodeArgs: ['--expose-gc'],
  });
  const { resident, own, pageTables, size } = JSON.parse(stdout) as Cost;
  assert.ok(own < resident * 0.005, `${own} bytes of its own beside ${resident} resident`);
  // The marks lie in the page tables: 8 bytes for each page, also for those that do not exist.
  assert.ok(pageTables < (size / 4096) * 8 * 1.02, `${pageTables} bytes of page tables`);
});
