// What the kernel does that this package relies on, or that its users must know: measured, not supposed.

import { describe, test } from 'node:test';
import { passScenario, type ScenarioOptions } from './support/scenario.js';

function it(title: string, scenario: string, args: string[] = [], options: ScenarioOptions = {}): void {
  test(title, async () => {
    await passScenario('kernel-facts', scenario, { args, ...options });
  });
}

describe('events', () => {
  it('tell of all that was unmapped, also beyond the registration (E)', 'unmapIsNotClipped');
  it('tell of moved memory first, then that its old place was unmapped (E)', 'remapThenUnmap');
});

describe('/proc/self/pagemap', () => {
  it('serves after setuid when it was opened before (E)', 'setuidAfterLoad');
  it('cannot be opened after setuid, and the error says what to do (E)', 'setuidBeforeLoad');
});

it('a descriptor takes one handshake, so a second one negotiates (E)', 'secondHandshake');
for (const [how, title] of [
  ['user-mode-only', 'loses a datagram with EFAULT under user-mode-only'],
  ['kernel-faults', 'gets it where faults inside system calls are served'],
  ['wp-async', 'gets it under wp-async, and it is seen as written'],
] as const) {
  it(`a system call that receives into armed memory ${title} (E)`, 'datagram', [how]);
}
it(
  'a thread with a signal waiting spins in a fault of a system call, and its fault is told once (E)',
  'signalInSystemCall',
);
it('every other page can be armed, far beyond the limit of mappings (E)', 'everyOtherPage', [], {
  timeoutMs: 30_000,
});
it(
  'memory that is registered and never armed tells nothing, and all of it counts as written (E)',
  'neverArmed',
);
it(
  'a thread is counted as running before it writes, and the kernel tells where it sleeps only when it does',
  'whatAThreadDid',
  [],
  { timeoutMs: 30_000 },
);
it('a generator in restored memory repeats its numbers (E)', 'entropyRepeats');

describe('memory that changes under protection', () => {
  for (const kind of ['anonymous', 'wasm', 'memfd']) {
    it(
      `loses content on discard, and armed pages with it or not, as documented: ${kind} (B10)`,
      'discardOfArmed',
      [kind],
    );
  }
  it(
    'comes back with a snapshot when it was given back, and counts as written (B10)',
    'discardUnderSnapshot',
  );
  for (const how of ['mapAnew', 'remap']) {
    it(`is silently unprotected, and arming it is then an error: ${how} (B11)`, 'movedUnderProtection', [
      how,
    ]);
  }
  it('is served as far as it was registered when it grows (B11)', 'growthUnderProtection');
});

describe('memory that another thread grows while it is copied and compared', () => {
  for (const kind of ['wasm', 'buffer']) {
    it(`is no crash, and nothing is lost: ${kind} (C2)`, 'growthDuringSweep', [kind], { timeoutMs: 20_000 });
  }
});
