// What happens when the kernel allows this process no more mappings (vm.max_map_count): a registration
// that begins or ends in the middle of one would have to split it.

import { describe, test } from 'node:test';
import { ENOUGH } from './support/mapping-limit.js';
import { passScenario } from './support/scenario.js';

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
  for (const engine of ['wp-async', 'wp-sync']) {
    it(`a tracker that closes leaves nothing in the way of the next owner: ${engine}`, 'trackerCloses', [
      engine,
    ]);
  }
  it('close() frees who waits', 'close');
  it('events of memory that goes or moves are applied, or everything is let go', 'events');
  it('a handler resolves, and the nets hold', 'handler');
});
