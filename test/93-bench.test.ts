// The benchmark itself: every case runs to its end, at sizes that say nothing about speed.

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import type { RunResult } from '../bench/harness/results.js';
import { runCommand, type Run } from './support/command.js';

const CASES = readdirSync(path.join(__dirname, '..', 'bench', 'cases'))
  .filter((name) => name.endsWith('.js'))
  .map((name) => name.replace(/\.js$/, ''))
  .sort();

const temporary = mkdtempSync(path.join(os.tmpdir(), 'uffd-bench-test-'));
after(() => {
  rmSync(temporary, { recursive: true, force: true });
});

function bench(...args: string[]): Promise<Run> {
  return runCommand(['bench', ...args], { env: { TMPDIR: temporary }, input: '', timeoutMs: 240_000 });
}

test('it runs every case and writes what it measured', async () => {
  const file = path.join(temporary, 'results.json');
  const { code, stdout, stderr } = await bench('--scale', '0.001', '--rounds', '1', '--json', file);
  assert.equal(code, 0, stdout + stderr);
  assert.match(stdout, /^Kernel /m);
  const { machine, cases } = JSON.parse(readFileSync(file, 'utf8')) as RunResult;
  assert.equal(machine.node, process.version);
  assert.deepEqual(
    cases.map(({ name }) => name),
    CASES,
  );
  for (const { name, outcome, reason, rows } of cases) {
    assert.equal(outcome, 'done', `${name}: ${reason}`);
    assert.ok(rows.length > 0, `${name} has rows`);
    for (const row of rows) {
      for (const [side, { p50, max }] of Object.entries(row.sides)) {
        assert.ok(Number.isFinite(p50) && max >= p50, `${name}, ${row.name}, ${side}: ${p50}`);
      }
      for (const { value } of row.verdicts) assert.ok(Number.isFinite(value), `${name}, ${row.name}`);
    }
  }
  const unarmed = cases
    .find(({ name }) => name === 'arm')!
    .rows.find(({ name }) => name.startsWith('DEFAULT'));
  assert.match(unarmed!.notes.join(), /default: 0 pages armed: NOTHING/);
  assert.deepEqual(
    readdirSync(temporary).filter((name) => name.startsWith('userfaultfd-bench-')),
    [],
    'nothing is left behind',
  );
});

test('it names the cases there are when one is not', async () => {
  const { code, stderr } = await bench('nothing');
  assert.equal(code, 1);
  assert.match(stderr, /no case is named nothing; there are .*collect/);
});
