// The command line, as a user types it.

import assert from 'node:assert/strict';
import path from 'node:path';
import test from 'node:test';
import type { Capabilities } from '../lib/index.js';
import type { DemoReport } from '../lib/demo/report.js';
import { runCommand, type Run, type RunOptions } from './support/command.js';

/** A demo takes its time on a busy machine. */
function run(args: readonly string[], options: RunOptions = {}): Promise<Run> {
  return runCommand(args, { timeoutMs: 60_000, input: '', ...options });
}

for (const asNobody of [false, true]) {
  const who = asNobody ? 'an ordinary user' : 'root';

  test(`it tells ${who} what works, as text and as JSON`, async () => {
    const text = await run(['doctor'], { asNobody });
    assert.equal(text.code, 0, text.stderr);
    assert.match(text.stdout, /WP_UNPOPULATED/);
    assert.match(text.stdout, /yes {2}wp-async/);
    const json = await run(['doctor', '--json'], { asNobody });
    const found = JSON.parse(json.stdout) as Capabilities;
    assert.equal(found.handlesKernelFaults, !asNobody);
    assert.equal(text.stdout.includes('remedy:'), asNobody);
  });

  test(`it runs the demo for ${who}: Python is broken and comes back`, async () => {
    const { code, stdout, stderr } = await run(['demo', '--json'], { asNobody });
    assert.equal(code, 0, stderr + stdout);
    const report = JSON.parse(stdout) as DemoReport;
    assert.deepEqual(
      report.checks.filter((check) => !check.passed),
      [],
    );
    assert.ok(report.ok);
    assert.ok(report.statements.every((step) => step.pages > 0));
    assert.ok(report.restore.pages > 0);
    assert.equal(report.unpopulated?.withoutFeature.armedPages, 0);
    assert.equal(report.unpopulated.withFeature.armedPages, report.unpopulated.pages);
  });
}

test('it prints the demo as plain text without a terminal', async () => {
  const { code, stdout } = await run(['demo']);
  assert.equal(code, 0, stdout);
  assert.match(stdout, /All checks passed/);
  assert.ok(!stdout.includes('\u001b'), 'no escape sequences');
  assert.match(stdout, /^ x = 1 .* ms .*[.:+*#]{40}/m);
});

test('it ends the demo with a code that is not zero when a check fails', async () => {
  const { code, stdout } = await run(['demo'], {
    nodeArgs: ['--require', path.join(__dirname, 'scenarios', 'command-line-broken-restore.js')],
  });
  assert.equal(code, 1, stdout);
  assert.match(stdout, /FAIL every byte of memory equals the snapshot/);
});

test('it ends the doctor with a code that is not zero where nothing works', async () => {
  const { code, stdout } = await run(['doctor'], {
    nodeArgs: ['--require', path.join(__dirname, 'scenarios', 'command-line-refused.js')],
  });
  assert.equal(code, 1, stdout);
  assert.match(stdout, /\[error\] seccomp: /);
  assert.match(stdout, /remedy: /);
});

test('it names what it does not know', async () => {
  const command = await run(['dokter']);
  assert.equal(command.code, 1);
  assert.match(command.stderr, /unknown command 'dokter'/);
  const option = await run(['doctor', '--jsno']);
  assert.equal(option.code, 1);
  assert.match(option.stderr, /unknown option '--jsno'/);
});
