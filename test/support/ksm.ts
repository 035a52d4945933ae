// Switches KSM on for a test, fast enough, and puts the machine's settings back, also when the test fails
// or its process is killed, while other test files do the same.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { cannotRun } from './skip.js';

const DIRECTORY = '/sys/kernel/mm/ksm';

/** A process of its own, one at a time, changes the settings and changes them back when its input ends. */
const KEEPER = `
trap '' INT TERM HUP
exec 9>"$2" || exit 1
flock -x 9 || exit 1
cd "$1" || exit 1
run=$(cat run) pages=$(cat pages_to_scan) sleep=$(cat sleep_millisecs)
echo 20000 >pages_to_scan && echo 10 >sleep_millisecs && echo 1 >run && echo ready
cat >/dev/null
echo "$pages" >pages_to_scan; echo "$sleep" >sleep_millisecs; echo "$run" >run`;

function isWritable(file: string): boolean {
  try {
    accessSync(file, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export async function withKsm(t: TestContext, use: () => Promise<void>): Promise<void> {
  if (!isWritable(path.join(DIRECTORY, 'run'))) {
    cannotRun(t, 'run as root on a kernel with CONFIG_KSM=y');
    return;
  }
  const lock = path.join(tmpdir(), 'userfaultfd-ksm.lock');
  const keeper = spawn('sh', ['-c', KEEPER, 'sh', DIRECTORY, lock], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(keeper, 'close');
  try {
    const [first] = (await Promise.race([once(keeper.stdout, 'data'), ended])) as [unknown];
    assert.equal(String(first).trim(), 'ready', 'KSM can be switched on (needs root and flock)');
    await use();
  } finally {
    keeper.stdin.end();
    await ended;
  }
}
