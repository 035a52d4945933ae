// Gives the machine a small swap file for a test and takes it away again, also when the test fails or its
// process is killed, while other test files do the same.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { cannotRun } from './skip.js';

/** A process of its own, one at a time, adds the file and removes it when its input ends. */
const KEEPER = `
trap '' INT TERM HUP
exec 9>"$2" || exit 1
flock -x 9 || exit 1
umask 077
dd if=/dev/zero of="$1" bs=1M count=64 2>/dev/null && mkswap "$1" >/dev/null && swapon "$1" && echo ready
cat >/dev/null
swapoff "$1"
rm -f "$1"`;

export async function withSwap(t: TestContext, use: () => Promise<void>): Promise<void> {
  if (process.getuid?.() !== 0) {
    cannotRun(t, 'run as root: a swap file is added');
    return;
  }
  const file = path.join(tmpdir(), `userfaultfd-${process.pid}.swap`);
  const lock = path.join(tmpdir(), 'userfaultfd-swap.lock');
  const keeper = spawn('sh', ['-c', KEEPER, 'sh', file, lock], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  });
  const ended = once(keeper, 'close');
  try {
    const [first] = (await Promise.race([once(keeper.stdout, 'data'), ended])) as [unknown];
    assert.equal(String(first).trim(), 'ready', 'a swap file can be added (needs a disk that takes one)');
    await use();
  } finally {
    keeper.stdin.end();
    await ended;
  }
}
