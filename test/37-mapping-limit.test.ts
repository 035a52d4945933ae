// What happens when the kernel allows this process no more mappings (vm.max_map_count): a registration
// that begins or ends in the middle of one would have to split it.

import { describe, test } from 'node:test';
import { passScenario, type ScenarioOptions } from './support/scenario.js';

// Node.js itself ends when it gets no memory at the limit: its collector has nothing to do there, and the
// heap of the C library grows in place.
const ENOUGH: ScenarioOptions = {
  nodeArgs: ['--single-threaded-gc', '--min-semi-space-size=64', '--max-semi-space-size=64'],
  env: { MALLOC_ARENA_MAX: '1' },
  timeoutMs: 30_000,
};

function it(title: string, scenario: string, args: string[] = []): void {
  test(title, async () => {
    await passScenario('mapping-limit', scenario, { ...ENOUGH, args });
  });
}

it('every other region can be registered until the mappings are used up, two for each (E)', 'everyOther');

describe('at the limit of mappings', () => {
  it('register() says ENOMEM and what to do, and what is registered goes on', 'register');
  it('register() takes back the part that the kernel had registered (B17)', 'partOfRegister');
  for (const how of ['unregister', 'registration', 'region']) {
    it(`what cannot be unregistered is served as before, and it is said: ${how}`, 'unregister', [how]);
  }
  it('close() frees who waits', 'close');
  it('events of memory that goes or moves are applied, or everything is let go', 'events');
  it('a handler resolves, and the nets hold', 'handler');
});
