// A process that is killed while it saves: the file is the old one or the new one, and whole.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { SnapshotFile } from '../lib/index.js';
import { seeded } from './scenarios/dirty-support.js';
import { directoryFor } from './support/snapshot-files.js';

/** UFFD_TEST_SNAPSHOT_KILLS=300 is the full number. */
const ROUNDS = Number(process.env['UFFD_TEST_SNAPSHOT_KILLS'] ?? 6);
const RUNNER = path.join(__dirname, 'support', 'run-scenario.js');
const SCENARIO = path.join(__dirname, 'scenarios', 'snapshot-file-kill.js');

/** Kills a process that saves one version after another; the last it said it had saved. */
async function killWhileSaving(
  directory: string,
  kind: string,
  random: (below: number) => number,
): Promise<number> {
  const child = spawn(process.execPath, [RUNNER, SCENARIO, 'saveForEver', directory, kind], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  const patience = AbortSignal.timeout(60_000);
  try {
    while (!said.includes('saved 1\n')) await once(child.stdout, 'data', { signal: patience });
    const took = Number(/took (\d+)/.exec(said)![1]);
    await setTimeout(random(Math.max(2 * took, 4)));
  } finally {
    process.kill(child.pid!, 'SIGKILL');
    await ended;
  }
  return Math.max(...[...said.matchAll(/saved (\d+)\n/g)].map(([, version]) => Number(version)));
}

test(`it leaves the old file or the new one when it is killed during a save, ${ROUNDS} times`, async (t) => {
  const directory = directoryFor(t);
  const random = seeded(Date.now());
  let [older, newer, interrupted] = [0, 0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    const saved = await killWhileSaving(directory, round % 2 === 0 ? 'full' : 'difference', random);
    using file = await SnapshotFile.open(path.join(directory, 'file'));
    await file.verify();
    const bytes = await file.read();
    const version = bytes[0]!;
    assert.ok(version === saved || version === saved + 1, `version ${version} after ${saved} was saved`);
    assert.ok(bytes.every((byte, at) => at % 4096 !== 0 || byte === version));
    if (version === saved) older++;
    else newer++;
    for (const name of readdirSync(directory)) {
      if (name === 'file' || name === 'parent') continue;
      assert.match(name, /^\.uffd-\d+-[0-9a-f]{16}\.tmp$/);
      interrupted++;
      rmSync(path.join(directory, name));
    }
  }
  t.diagnostic(
    `${older} times the old file, ${newer} times the new one; ${interrupted} kills left a temporary file`,
  );
});
