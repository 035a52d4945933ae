// Work is counted, not time: system calls and allocations of an operation do not grow with what it is about.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { SnapshotFile } from '../lib/index.js';
import { saveSnapshot } from '../lib/snapshot-save.js';
import { passScenario } from './support/scenario.js';

test('it collects with one ioctl and a few allocations, however many pages were written', async () => {
  await passScenario('work', 'collect');
});

test('it takes another ioctl only for what does not fit into the result of one', async () => {
  await passScenario('work', 'collectManyRanges');
});

test('it makes no JavaScript object for a page that was collected', async () => {
  await passScenario('work', 'memoryOfCollect', { nodeArgs: ['--expose-gc'] });
});

test('it starts and ends a tracker with the ioctls that it takes, and no others', async () => {
  await passScenario('work', 'trackers');
});

test('it restores with two ioctls, however many pages were written', async () => {
  await passScenario('work', 'snapshots');
});

test('it adds an entry to a history with two ioctls, however many pages were written', async () => {
  await passScenario('work', 'historyEntries');
});

test('it adds one of much memory with one ioctl where all other threads slept and no other process writes', async () => {
  await passScenario('work', 'historyOfMuchMemory');
});

test('it asks once for each long run whether its pages exist', async () => {
  await passScenario('work', 'historyRuns');
});

test('it has the memory of the next entry ready, so that an entry has few page faults', async () => {
  await passScenario('work', 'memoryOfTheNextEntry');
});

test('it tells a hundred trackers of the same memory without an allocation for each', async () => {
  await passScenario('work', 'manyTrackers');
});

test('it ends a fault natively with one ioctl, without an allocation or a word to JavaScript', async () => {
  await passScenario('work', 'nativeFaults');
});

test('it asks the addon four things for each fault that JavaScript ends', async () => {
  await passScenario('work', 'answers');
});

test('it hands over a batch of events without a system call for each', async () => {
  await passScenario('work', 'events');
});

test('it saves through a few buffers, however large the memory, and overwrites none that is being written', async () => {
  const pageSize = 4096;
  const memory = randomFillSync(Buffer.alloc(2 ** 25));
  // Nothing is yielded for these, and what was yielded before them may still be on its way.
  memory.fill(0, 2 ** 22, 2 ** 24);
  const buffers = new Set<ArrayBufferLike>();
  const source = {
    byteLengths: [memory.length],
    pageSize,
    read: (offset: number, length: number, _memory: number, into?: Uint8Array) => {
      buffers.add(into!.buffer);
      assert.equal(into!.length, length);
      into!.set(memory.subarray(offset, offset + length));
      return into!;
    },
  };
  const directory = mkdtempSync(path.join(os.tmpdir(), 'uffd-work-'));
  try {
    const file = path.join(directory, 'saved');
    await saveSnapshot(source, file);
    // Three that are written, and five whose digests are made.
    assert.equal(buffers.size, 8);
    const saved = await SnapshotFile.open(file);
    await saved.verify();
    assert.ok(memory.equals(await saved.read()));
    saved.close();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("it loads one file of its own for require('userfaultfd'), and no module of Node.js", () => {
  const text = `
    const before = new Set(process.moduleLoadList);
    const required = require('userfaultfd');
    const builtins = process.moduleLoadList.filter((name) => !before.has(name) && !name.includes('internal/'));
    const files = Object.keys(require.cache).length;
    const names = Object.keys(required).filter((name) => required[name] === undefined);
    process.stdout.write(JSON.stringify({ builtins, files, names }));
  `;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', text], {
    cwd: path.join(__dirname, '..', '..'),
    encoding: 'utf8',
    timeout: 20_000,
    killSignal: 'SIGKILL',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  assert.notEqual(stdout, '', stderr);
  assert.deepEqual(JSON.parse(stdout), { builtins: [], files: 1, names: [] });
});
