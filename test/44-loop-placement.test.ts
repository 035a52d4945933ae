// The native loop sleeps on the processor of the thread whose faults it ends.

import { readFileSync } from 'node:fs';
import { availableParallelism, getPriority } from 'node:os';
import { test } from 'node:test';
import { passScenario } from './support/scenario.js';
import { cannotRun } from './support/skip.js';

function it(title: string, scenario: string, args: string[] = []): void {
  test(title, async (t) => {
    const isFiltered = !/^Seccomp:\s*0$/m.test(readFileSync('/proc/self/status', 'utf8'));
    if (availableParallelism() < 2 || isFiltered || getPriority() > 0) {
      cannotRun(t, 'two processors, no seccomp filter and the usual priority');
      return;
    }
    await passScenario('loop-placement', scenario, { args, timeoutMs: 20_000 });
  });
}

for (const kind of ['snapshot', 'lazy restore']) {
  it(`it goes with a thread from one processor to another: ${kind}`, 'follows', [kind]);
}
it('it stays on processors that are allowed to it', 'staysWhereItMayRun');
it('it lets go when no fault comes, whatever else comes', 'letsGoWhileBusy');
it('it follows nobody when a second thread faults', 'followsOneThread');
it('it is held nowhere under a seccomp filter', 'isHeldNowhere', ['filter']);
it('it is held nowhere where it yields to others', 'isHeldNowhere', ['nice']);
it('it is let go from its processor when it stands still', 'isLetGoWhenItStandsStill');
