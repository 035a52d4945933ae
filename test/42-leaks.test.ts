// Descriptors, threads and mappings of the process come back to where they began.

import { describe, test } from 'node:test';
import { passScenario } from './support/scenario.js';

function it(title: string, scenario: string, timeoutMs = 20_000): void {
  test(title, async () => {
    await passScenario('leaks', scenario, { timeoutMs, nodeArgs: ['--expose-gc'] });
  });
}

describe('nothing is left', () => {
  it('after 10,000 rounds of open, register, arm, write, close', 'closed', 120_000);
  it('after 1,000 rounds whose events were read', 'observed', 60_000);
  it('after 300 rounds whose objects were dropped and collected', 'dropped', 60_000);
  it('after calls that were refused', 'failedRegister');
  it('of the trackers of Workers that were terminated while they made them', 'terminatedWhileMaking', 60_000);
  it('of regions that one userfaultfd had registered, although nobody reads its events', 'unregisteredOften');
  it('of the memory of a closed region, without waiting for the garbage collector', 'memoryOfClosedRegion');
});

describe('memory that is dropped while it is armed', () => {
  it(
    'stays with the userfaultfd that armed it, and no other memory inherits the protection (C6)',
    'regionDropped',
  );
  it('is disarmed before it goes, and nobody who gets it next waits (C6)', 'bothDropped');
  it('is disarmed and stays for who holds its bytes (C6)', 'bufferKept');
});
