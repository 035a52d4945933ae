// A consumer that stays awake reads faults itself, and the loop stays the net under it.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { passScenario, runScenario, type ScenarioOptions } from './support/scenario.js';

function it(title: string, scenario: string, args: string[] = [], options: ScenarioOptions = {}): void {
  test(title, async () => {
    await passScenario('reading-aside', scenario, { args, timeoutMs: 60_000, ...options });
  });
}

describe('an event loop that stays awake for the next fault', () => {
  it('reads it itself and hands it over as the loop does', 'handsOver');
  it('tells every write to what is armed again and again', 'tellsEveryWrite');
  it('has its deadlines kept by a loop that slept meanwhile', 'keepsDeadlines');
  it('tells a page once that the loop ended with such a fault in hand', 'endsWithItsPage');
  it('has its own faults ended by the loop that stands aside', 'endsItsOwnFaults');
  test('answers for a fault in hand when another thread releases it', async () => {
    const { code, signal, stdout, stderr } = await runScenario('reading-aside', 'isReleasedInTheMiddle', {
      timeoutMs: 60_000,
    });
    assert.match(stdout, /READY/);
    assert.ok(signal === 'SIGBUS' || code === 0, stderr);
  });
  for (const what of ['events', 'native faults']) {
    it(`leaves the reading to the loop where there are ${what}, too`, 'leavesTheRestToTheLoop', [what]);
  }
});
