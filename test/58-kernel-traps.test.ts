// What the kernel does to marks that a tracker relies on, and what its calls do when they fail.

import assert from 'node:assert/strict';
import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { passScenario } from './support/scenario.js';
import { cannotRun } from './support/skip.js';

const KSM = '/sys/kernel/mm/ksm';
/** Fast enough for a test. */
const SETTINGS = { run: '1', pages_to_scan: '20000', sleep_millisecs: '10' };

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The settings of the machine are put back, whatever happens to the process that needs them. */
async function withKsm(use: () => Promise<void>): Promise<void> {
  const names = Object.keys(SETTINGS) as (keyof typeof SETTINGS)[];
  const before = names.map((name) => [name, readFileSync(`${KSM}/${name}`, 'utf8')] as const);
  try {
    for (const name of names) writeFileSync(`${KSM}/${name}`, SETTINGS[name]);
    await use();
  } finally {
    for (const [name, value] of before) writeFileSync(`${KSM}/${name}`, value);
  }
}

test('it loses no write to memory that KSM merges, and a region is not merged (B12)', async (t) => {
  if (!isWritable(`${KSM}/run`)) {
    cannotRun(t, 'run as root on a kernel with CONFIG_KSM=y');
    return;
  }
  await withKsm(async () => {
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

test('it takes no failed scan of one tracker for another one’s (B18, B19)', async () => {
  await passScenario('scan-errors', 'othersKeepTheirs');
});
