// npx userfaultfd snapshot, as a user types it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import type { SnapshotFileInfo } from '../lib/index.js';
import { saveSnapshot } from '../lib/snapshot-save.js';
import { PAGE, pageRun } from './scenarios/dirty-support.js';
import { assertOnly, directoryFor, sourceOf, writePages } from './support/snapshot-files.js';

const COMMAND = path.join(__dirname, '..', 'lib', 'cli.js');

interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

function run(directory: string, ...args: string[]): Run {
  const result = spawnSync(process.execPath, [COMMAND, 'snapshot', ...args], {
    cwd: directory,
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { code: result.status, stdout: result.stdout, stderr: result.stderr };
}

/** A full file and two differences, of 64 pages. */
async function chain(t: TestContext): Promise<string> {
  const directory = directoryFor(t);
  const bytes = Buffer.alloc(64 * PAGE);
  for (const [i, name] of ['full', 'first', 'second'].entries()) {
    writePages(bytes, i === 0 ? pageRun(0, 32) : [2 * i, 40 + i], i);
    const parent = path.join(directory, ['', 'full', 'first'][i]!);
    await saveSnapshot(sourceOf(bytes), path.join(directory, name), i === 0 ? {} : { parent });
  }
  return directory;
}

test('it shows what files hold, also without their parents', async (t) => {
  const directory = await chain(t);
  rmSync(path.join(directory, 'full'));
  const text = run(directory, 'info', 'first');
  assert.equal(text.code, 0, text.stderr);
  assert.match(text.stdout, /^first\n {2}digest {4}[0-9a-f]{64}\n {2}parent {4}[0-9a-f]{64} \(full\)\n/);
  assert.match(text.stdout, /memory {4}256 KiB\n {2}pages {5}2 of 4096 bytes/);
  const json = run(directory, 'info', '--json', 'first', 'second');
  const [first, second] = JSON.parse(json.stdout) as SnapshotFileInfo[];
  assert.equal(second!.parent!.digest, first!.digest);
  assert.equal(run(directory, 'info', 'none').code, 1);
});

test('it shows what it can before it says what is wrong, and lets no file drive the terminal', async (t) => {
  const directory = await chain(t);
  const some = run(directory, 'info', 'full', 'none');
  assert.equal(some.code, 1);
  assert.match(some.stdout, /^full\n/);
  const name = 'full\u001b[2J\u009b';
  await saveSnapshot(sourceOf(Buffer.alloc(PAGE, 1)), path.join(directory, name));
  const parent = path.join(directory, name);
  await saveSnapshot(sourceOf(Buffer.alloc(PAGE, 2)), path.join(directory, 'third'), { parent });
  assert.match(run(directory, 'info', 'third').stdout, /\(full\ufffd\[2J\ufffd\)\n/);
});

test('it takes a wrong call of diff for trouble, not for a difference', async (t) => {
  const directory = await chain(t);
  assert.equal(run(directory, 'diff', 'full').code, 2);
  assert.equal(run(directory, 'diff', 'full', 'first', '--nothing').code, 2);
  assert.equal(run(directory, 'diff', '--help').code, 0);
});

test('it tells intact files from others by its exit code, and says what is wrong', async (t) => {
  const directory = await chain(t);
  const good = run(directory, 'verify', 'full', 'second');
  assert.equal(good.code, 0, good.stdout + good.stderr);
  assert.match(good.stdout, /^ok {3}full: 32 pages, .*\nok {3}second: 36 pages, .* in 3 files\n$/);
  assert.equal(good.stderr, '', 'no progress bar where nobody looks');
  const bytes = readFileSync(path.join(directory, 'full'));
  bytes[PAGE * 2]! ^= 1;
  writeFileSync(path.join(directory, 'full'), bytes);
  const bad = run(directory, 'verify', 'full', 'second', 'none');
  assert.equal(bad.code, 1);
  assert.equal(bad.stdout.match(/^FAIL/gm)?.length, 3);
  assert.match(bad.stdout, /a page does not match its digest \[ERR_UFFD_SNAPSHOT_CORRUPT\]/);
  const json = run(directory, 'verify', '--json', 'second');
  assert.equal(json.code, 1);
  const [result] = JSON.parse(json.stdout) as { path: string; intact: boolean; code: string }[];
  assert.deepEqual(
    [result!.path, result!.intact, result!.code],
    ['second', false, 'ERR_UFFD_SNAPSHOT_CORRUPT'],
  );
});

test('it compares as diff does: 0 the same, 1 different, 2 trouble', async (t) => {
  const directory = await chain(t);
  const different = run(directory, 'diff', 'full', 'second');
  assert.equal(different.code, 1, different.stderr);
  assert.equal(
    different.stdout,
    [
      '4 pages differ, 16 KiB',
      `  offset ${2 * PAGE}, ${PAGE} bytes`,
      `  offset ${4 * PAGE}, ${PAGE} bytes`,
      `  offset ${41 * PAGE}, ${2 * PAGE} bytes\n`,
    ].join('\n'),
  );
  const json = run(directory, 'diff', '--json', 'first', 'second');
  assert.deepEqual((JSON.parse(json.stdout) as { ranges: unknown }).ranges, [
    { offset: 4 * PAGE, length: PAGE },
    { offset: 42 * PAGE, length: PAGE },
  ]);
  const same = run(directory, 'diff', 'first', 'first');
  assert.deepEqual([same.code, same.stdout], [0, 'No page differs.\n']);
  assert.equal(run(directory, 'diff', 'first', 'none').code, 2);
});

test('it joins a chain into one file, wherever its files are', async (t) => {
  const directory = await chain(t);
  const joined = run(directory, 'compact', 'second', '--output', 'one');
  assert.equal(joined.code, 0, joined.stderr);
  assert.match(joined.stdout, /^one: 34 pages, .*\n {2}digest {4}[0-9a-f]{64}\n$/);
  assert.equal(run(directory, 'diff', 'one', 'second').code, 0);
  const named = run(directory, 'compact', '--json', 'full', 'first', 'second', '-o', 'two');
  assert.equal((JSON.parse(named.stdout) as { pages: number }).pages, 34);
  rmSync(path.join(directory, 'first'));
  const broken = run(directory, 'compact', 'second', '-o', 'three');
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /^userfaultfd: .*second: .* that was not found/);
  assert.equal(run(directory, 'compact', 'second').code, 1, 'it never guesses where to write');
  assertOnly(directory, 'full', 'second', 'one', 'two');
});
