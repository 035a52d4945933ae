// What the kernel does to marks that a tracker relies on, and what its calls do when they fail.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withKsm } from './support/ksm.js';
import { passScenario } from './support/scenario.js';
import { cannotRun } from './support/skip.js';

test('it loses no write to memory that KSM merges, and a region is not merged (B12)', async (t) => {
  await withKsm(t, async () => {
    const { stdout } = await passScenario('ksm', 'mergedMemory', { timeoutMs: 30_000 });
    const { merged } = JSON.parse(stdout) as { merged: number };
    assert.ok(merged > 0, 'pages were merged');
  });
});

test('it warns once that the kernel may merge the memory of this process (B12)', async (t) => {
  if (process.getuid?.() !== 0) {
    cannotRun(t, 'run as root: PR_SET_MEMORY_MERGE needs CAP_SYS_RESOURCE');
    return;
  }
  await passScenario('ksm', 'warnsOfMerging');
});

test('it counts everything as written when the kernel could not store what a scan found (B18)', async () => {
  await passScenario('scan-errors', 'everythingIsWritten');
});

test('it counts everything as written after a failed scan, also where nobody shares the pages (B18)', async () => {
  await passScenario('scan-errors', 'everythingIsWrittenForOne');
});

test('it takes no failed scan of one tracker for another one’s (B18, B19)', async () => {
  await passScenario('scan-errors', 'othersKeepTheirs');
});
