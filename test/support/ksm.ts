// Switches KSM on for a test and puts the machine's settings back, whatever happens to the process that
// needs them.

import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { cannotRun } from './skip.js';

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

export async function withKsm(t: TestContext, use: () => Promise<void>): Promise<void> {
  if (!isWritable(`${KSM}/run`)) {
    cannotRun(t, 'run as root on a kernel with CONFIG_KSM=y');
    return;
  }
  const names = Object.keys(SETTINGS) as (keyof typeof SETTINGS)[];
  const before = names.map((name) => [name, readFileSync(`${KSM}/${name}`, 'utf8')] as const);
  try {
    for (const name of names) writeFileSync(`${KSM}/${name}`, SETTINGS[name]);
    await use();
  } finally {
    for (const [name, value] of before) writeFileSync(`${KSM}/${name}`, value);
  }
}
