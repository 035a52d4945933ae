// The resolver `in-thread`: the writing thread itself has its page captured, in a SIGBUS handler.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { passScenario, runScenario, type ScenarioOptions } from './support/scenario.js';

function it(title: string, scenario: string, args: string[] = [], options: ScenarioOptions = {}): void {
  test(title, async () => {
    await passScenario('in-thread', scenario, { args, ...options });
  });
}

/** The process ends by SIGBUS, as it would without this package. */
function dies(title: string, scenario: string, args: string[] = []): void {
  test(title, async () => {
    const result = await runScenario('in-thread', scenario, { args });
    const said = `\n${result.stdout}${result.stderr}`;
    assert.match(result.stdout, /READY/, said);
    assert.equal(result.signal, 'SIGBUS', `ended with code ${result.code}${said}`);
  });
}

const asNobody = process.getuid!() === 0;

describe('a SIGBUS that is not ours', { concurrency: 2 }, () => {
  dies('still kills while pages are captured (C4)', 'foreignFault', ['during']);
  dies('still kills after a snapshot (C4)', 'foreignFault', ['after']);
  dies('still kills after many snapshots (C4)', 'foreignFault', ['afterMany']);
  dies('still kills where a snapshot’s memory was (C4)', 'foreignFaultInOldPlace');
  dies('still kills of a page that was poisoned, beside pages that are captured (C4)', 'poisonedElsewhere');
  dies('still kills when it was sent (C4)', 'sentSignal');
  it('goes to the handler that was there before (C4)', 'nativeHandler', ['before']);
  it('goes to the handler that came after (C4)', 'nativeHandler', ['after']);
  it('is heard by process.on(SIGBUS) when it was sent (C4)', 'processOnHears');
});

describe('writes go on', { concurrency: 2 }, () => {
  it('with process.on(SIGBUS) before a snapshot (C4)', 'processOn', ['before']);
  it('with process.on(SIGBUS) during a snapshot (C4)', 'processOn', ['during']);
  it('with process.off(SIGBUS) during a snapshot (C4)', 'processOn', ['off']);
  it('with removeAllListeners(SIGBUS) during a snapshot (C4)', 'processOn', ['once']);
  it('with a handler that somebody installed meanwhile (C4)', 'replacedSilently');
  dies('never on a thread that blocks SIGBUS: that is the kernel’s end of the process (C4)', 'blockedSigbus');
  it('on the main thread, pool threads, Workers and from Wasm, each captured first (C4)', 'writers');
  test('under a storm of signals (C4)', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'in-thread-'));
    try {
      await passScenario('in-thread', 'signals', {
        nodeArgs: ['--cpu-prof', '--cpu-prof-interval=100', `--cpu-prof-dir=${directory}`],
        timeoutMs: 60_000,
      });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
  it('through more snapshots than there are places for ranges (C4)', 'many', [], { timeoutMs: 30_000 });
  it('when the signal is late (B13, C4)', 'lateSignal');
  it('when the snapshot closes under the handler (C4)', 'closedUnderHandlers', [], { timeoutMs: 30_000 });
});

describe('system calls', { concurrency: 2 }, () => {
  it('fail with EFAULT into a page not yet captured, and the snapshot is unharmed', 'readIntoArmed', [
    'in-thread',
  ]);
  it('write there with the resolver loop', 'readIntoArmed', ['loop']);
  it(
    'of an ordinary user: auto copies, the resolver loop says why not, in-thread works',
    'ordinaryUser',
    [],
    {
      asNobody,
    },
  );
});
