// A file system that is full, in a mount namespace that ends with its process.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmdirSync, statfsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { SnapshotFile } from '../../lib/index.js';
import { saveSnapshot, streamSnapshot } from '../../lib/snapshot-save.js';
import { assertOnly, assertSame, sourceOf } from '../support/snapshot-files.js';

const MIB = 2 ** 20;

export function fullDisk(): void {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'uffd-full-'));
  try {
    const script = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$0" "$2" "$3" inside "$1"';
    const runner = path.join(__dirname, '..', 'support', 'run-scenario.js');
    const words = ['--mount', 'sh', '-c', script, process.execPath, directory, runner, __filename];
    const { status, stdout, stderr } = spawnSync('unshare', words, { encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
  } finally {
    rmdirSync(directory);
  }
}

export async function inside(directory: string): Promise<void> {
  assert.ok(statfsSync(directory).blocks * statfsSync(directory).bsize <= 4 * MIB, 'it is the small one');
  const target = path.join(directory, 'file');
  const old = Buffer.alloc(MIB, 1);
  await saveSnapshot(sourceOf(old), target);
  const before = readFileSync(target);
  const full = { name: 'UffdError', code: 'ENOSPC', path: target };
  // Too much by far, and so that pages fit but not the index.
  for (const size of [16 * MIB, 3 * MIB - 20_000]) {
    const source = sourceOf(Buffer.alloc(size, 2));
    await assert.rejects(saveSnapshot(source, target), full);
    await assert.rejects(SnapshotFile.from(streamSnapshot(source), { path: target }), full);
    assert.ok(readFileSync(target).equals(before));
    assertOnly(directory, 'file');
  }
  using file = await SnapshotFile.open(target);
  assertSame(await file.read(), old);
}
