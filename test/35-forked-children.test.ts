// With EVENT_FORK a child's userfaultfd is an object: what can be done with it, and that nobody waits for
// it, whoever takes it, keeps it or drops it.

import { describe, test } from 'node:test';
import { passScenario, type ScenarioOptions } from './support/scenario.js';

function it(title: string, scenario: string, args: string[] = [], options: ScenarioOptions = {}): void {
  test(title, async () => {
    await passScenario('children', scenario, { args, ...options });
  });
}

describe("a child's userfaultfd", () => {
  it('fills, arms, unprotects, wakes and unregisters memory of the child alone', 'calls');
  it('names the mistake of a caller, and stays open', 'badInput');
  it('ends the faults of the child, and asks no handler', 'handlerIsNotAsked');
  it('gives the bytes of a source, and zeros for what was given back before or after the fork', 'source');
  it('poisons what has lost its source, and never makes it zeros', 'sourceIsLost');
  it('reads the events of the child: what it gives back, and its own fork (D3, D4)', 'itsEvents');
  it('is closed by a fault that it has no answer to, and the child goes on', 'unknownMemory');
});

describe('it is closed', () => {
  for (const how of ['exit', 'exec', 'kill']) {
    it(`soon after its child ended, which gives no end-of-file: ${how} (E)`, 'ends', [how]);
  }
  it('by a method that finds the child ended', 'callMeetsEnd');
  it('and nothing is registered any more, however much was (A2)', 'manyRegistrations');
  it('when the iterator ends and nobody took it; one that was taken stays', 'unread');
  it('when the consumer leaves while the child sleeps in a fault', 'consumerLeaves');
  it('by the garbage collector', 'collected', [], { nodeArgs: ['--expose-gc'] });
  for (const who of ['child', 'parent', 'watchdog']) {
    it(
      `while the child sleeps in a fault that a held loop does not end: ${who} (A2, A8)`,
      'closedWhileAsleep',
      [who],
    );
  }
  it('with its process', 'processEnds');
});

describe('no fork waits', () => {
  it('for a consumer that takes 100 objects and closes none (D3)', 'taken', [], { timeoutMs: 60_000 });
  it('when more children live than there are places (D3)', 'bounded', [], { timeoutMs: 30_000 });
  it(
    'for the locks of malloc, which another fork holds while the loop notes events (D7, D3)',
    'forksMeetEvents',
    [],
    {
      timeoutMs: 30_000,
    },
  );
  it('when its event takes the last descriptor (E, D3, A4)', 'withoutDescriptors');
  it('when objects of other children have the last descriptors (E, D3, A4)', 'oldestGivesWay');
});
