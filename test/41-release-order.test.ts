// Whoever lets go of memory or of a descriptor leaves nobody asleep and touches nothing that is not its own.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { passScenario, runScenario, type ScenarioOptions } from './support/scenario.js';

function it(title: string, scenario: string, args: string[] = [], options: ScenarioOptions = {}): void {
  test(title, async () => {
    await passScenario('release', scenario, { args, ...options });
  });
}

const PLACES = {
  'loop-before-poll': 'before it waits',
  'loop-before-read': 'before it reads the fault',
  'loop-before-resolve': 'with the fault in hand',
};

describe('an open fault, the loop held', () => {
  for (const [barrier, place] of Object.entries(PLACES)) {
    it(`${place}, is freed by close() (A2)`, 'closeFrees', [barrier]);
    it(`${place}, is freed by unregister() (A2, A3)`, 'unregisterFrees', [barrier]);
    it(`${place}, is freed by closing the registration, in a pool thread (A2, A3)`, 'regionCloseFrees', [
      barrier,
    ]);
  }
  it('is freed by the release of everything, for every userfaultfd of the process', 'releaseAllDisarms');
});

describe('writers that meet the release at any point', () => {
  for (const how of ['unregister', 'close']) {
    it(`are never left asleep: ${how}(), 300 rounds (A3)`, 'writersMeetRelease', [how], {
      timeoutMs: 30_000,
    });
  }
});

describe('forks that meet the release', () => {
  it('are never left waiting: 200 descriptors with EVENT_FORK (A4)', 'forksMeetClose', [], {
    timeoutMs: 30_000,
  });
});

describe('a call on its way while another thread releases', () => {
  for (const call of ['writeProtect', 'unprotect', 'wake', 'copy', 'zeropage', 'register', 'armedPages']) {
    it(`is refused before it touches a descriptor: ${call}() (C3)`, 'callMeetsRelease', [call]);
  }
  it('keeps its descriptor from being given to another file while it lasts (C3)', 'callOutlastsRelease', [
    'writeProtect',
  ]);
  test('does not hold up process.exit() (C3)', async () => {
    const { code, stderr, elapsedMs } = await runScenario('release', 'callMeetsExit');
    assert.equal(code, 4, stderr);
    assert.ok(elapsedMs < 8000, `took ${Math.round(elapsedMs)} ms`);
  });
});

describe('closing', () => {
  it('twice is fine and closes nobody else’s file (B14)', 'closeTwice');
  it('makes every method throw ERR_UFFD_CLOSED and disarm nothing (B14)', 'closedThrows');
  it(
    'a region that is registered ends its registration and leaves the rest alone',
    'regionCloseWhileRegistered',
  );
});
