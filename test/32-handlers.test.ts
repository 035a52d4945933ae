// resolve: 'handler': JavaScript ends the faults, and what happens when it does not.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { passScenario, runScenario, type ScenarioOptions } from './support/scenario.js';

function it(title: string, scenario: string, args: string[] = [], options: ScenarioOptions = {}): void {
  test(title, async () => {
    await passScenario('handlers', scenario, { args, ...options });
  });
}

describe('a handler', () => {
  it('fills a missing page with bytes, and its thread goes on', 'fillsWithBytes');
  it('fills it with zeros when it gives none', 'fillsWithZeros');
  it('unprotects a write-protected page', 'unprotects');
  it('sees missing, then write-protect, and filling keeps the page armed (D9, B16)', 'missingThenProtected');
  it('can arm a page in the step that fills it', 'armsInTheSameStep');
  it('leaves the timers of its thread their turns while it has fault after fault', 'timersInAFlood');
  it('gets one fault for eight threads on one page, and frees them all', 'eightThreadsOnePage');
  it('may end several faults in any order', 'faultsAreIndependent');
  it('is ended by another call that fills, unprotects or wakes the page (B13)', 'endedByCall');
});

describe('bad input to a handler', () => {
  it('is told when it resolves twice', 'resolvesTwice');
  it(
    'is told when its bytes are not one page, or wait themselves, and may try again (D6)',
    'refusesOtherBytes',
  );
  it('is told when it is to arm what cannot be armed, and may try again', 'refusesToArm');
  it('is told of the feature it lacks, or that leaves no faults for it', 'featuresOfHandlers');
  for (const how of ['close', 'unregister', 'registration']) {
    it(`is told when it resolves after the end: ${how}`, 'resolvesAfterClose', [how]);
  }
});

describe('the nets under a handler', () => {
  for (const net of ['zeropage', 'source']) {
    it(`end a fault when its deadline passes: ${net}`, 'deadlinePasses', [net]);
  }
  it('say later what ended a fault that was closed since', 'endedBeforeClose');
  for (const how of ['close', 'unregister', 'registration', 'region']) {
    it(`give its bytes to who waits when it closes: ${how} (B3)`, 'closesWithSource', [how]);
  }
  it('end a write when its deadline passes', 'deadlineOfWrites');
  it('keep the deadline of each registration', 'deadlinesDiffer');
  it('hold what nobody reads yet until its deadline', 'nobodyBegan');
  for (const how of ['break', 'throw', 'abort']) {
    it(`end everything when the consumer leaves: ${how}`, 'consumerLeaves', [how]);
  }
  it('end everything when the consumer leaves 70 open faults', 'consumerLeavesMany', [], {
    timeoutMs: 120_000,
  });
  it("end the consumer's own faults at once, 10,000 times in a program of one thread (D1)", 'ownFaults');
  it(
    "end the consumer's own fault at once when a Worker's on that page is open (D1)",
    'ownFaultBesideAnother',
  );
  it('end with it what waits for that page, which ends nothing later (B13)', 'ownWriteEndsOthers');
  it('end a fault that is due also when the loop never comes to rest', 'deadlineInAFlood');
  it('never install bytes in a page that was given back meanwhile (B23)', 'removedWhileOpen');
  it('nor when that was between the claim of a handler and its answer (B23)', 'removedWhileClaimed');
  it('nor when the loop has not yet applied what it read (B23)', 'removedAndNotApplied');
  it('leave a fault alone that is being resolved, and free who faults meanwhile', 'claimHeld');
  it('hand over a fault anew that came while the one before was being ended', 'faultsAgainWhileWoken');
  it('wake who comes to a page between its answer and the end of its fault', 'comesBeforeTheEnd');
  it('are watched themselves: a loop that stands still is found out (A8)', 'stuckWithOpenFault');
  for (const how of ['handler', 'deadline', 'unregister']) {
    test(`poison only when asked to: ${how} (C4)`, async () => {
      const { signal, stdout } = await runScenario('handlers', 'poisons', { args: [how] });
      assert.match(stdout, /READY/);
      assert.equal(signal, 'SIGBUS');
    });
  }
});

describe('a Worker that serves the main thread', () => {
  it('fills 10,000 pages of plain memory from a file with asynchronous reads', 'workerServesMainThread', [], {
    timeoutMs: 60_000,
  });
  for (const how of ['never', 'throw', 'exit']) {
    it(`may go wrong, and the main thread goes on: ${how}`, 'workerGoesWrong', [how]);
  }
  test('is an example of under 40 lines that runs', () => {
    const example = path.join(__dirname, '..', '..', 'examples', 'worker-serves-file.mjs');
    assert.ok(readFileSync(example, 'utf8').split('\n').length < 40);
    const { status, stdout, stderr } = spawnSync(process.execPath, [example], { timeout: 20_000 });
    assert.equal(status, 0, String(stderr));
    assert.match(String(stdout), /^127 \d+ \d+: three pages of \d+ bytes were read\n$/);
  });
});

describe('a handler that needs the pool while every pool thread sleeps in its faults', () => {
  it('is helped by the deadline (D2)', 'poolIsAsleep');
  it('is helped by the deadline, with one pool thread (D2)', 'poolIsAsleep', [], {
    env: { UV_THREADPOOL_SIZE: '1' },
  });
});
