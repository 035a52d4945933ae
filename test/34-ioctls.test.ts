// Moving, continuing and poisoning pages, and ioctls that stop half way.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { passScenario, runScenario } from './support/scenario.js';

function it(title: string, scenario: string, args: string[] = []): void {
  test(title, async () => {
    await passScenario('ioctls', scenario, { args });
  });
}

describe('move()', () => {
  it('takes pages from other memory without copying them', 'moves');
  it('stops at a hole and tells how far it came, or leaves it out', 'movesHoles');
  it('wakes who waits for the page, and ends its fault', 'moveWakes');
  it('names what cannot be moved, and moves nothing then', 'refusesToMove');
});

describe('a page that another mapping filled', () => {
  it('is a minor fault that the loop continues, and continue() maps it before', 'minorFaults');
  it('can be changed until a handler continues it', 'minorHandler');
  for (const who of ['loop', 'handler']) {
    it(
      `may be gone when its fault is ended: the thread faults anew, and it is missing (${who})`,
      'minorGone',
      [who],
    );
  }
});

for (const how of ['move', 'continue']) {
  it(`leaves the reader asleep after ${how}({ wake: false }) until wake()`, 'fillsWithoutWake', [how]);
}

describe('poison()', () => {
  test('makes the page fatal for who touches it, and no other (C4)', async () => {
    const { signal, stdout, stderr } = await runScenario('ioctls', 'poisons');
    assert.match(stdout, /READY/, stderr);
    assert.equal(signal, 'SIGBUS');
  });
  for (const who of ['main', 'worker', 'pool']) {
    for (const when of ['before', 'after']) {
      test(`kills although the program listens for SIGBUS, since ${when} it was registered: ${who} (C4)`, async () => {
        const { signal, stdout, stderr } = await runScenario('ioctls', 'poisonsUnderListener', {
          args: [who, when],
        });
        assert.match(stdout, /READY/, stderr);
        assert.equal(signal, 'SIGBUS');
      });
    }
  }
  it('lets a listener for SIGBUS make the page usable again, and whoever touched it goes on', 'poisonHealed');
  test('leaves the reader asleep after poison({ wake: false }) until wake(), and then it dies (C4)', async () => {
    const { signal, stdout, stderr } = await runScenario('ioctls', 'poisonsWithoutWake');
    assert.match(stdout, /READY/, stderr);
    assert.equal(signal, 'SIGBUS');
  });
  it('goes when the page is given back', 'poisonGoesWithThePage');
  for (const mode of ['missing', 'write-protect', 'minor']) {
    for (const features of ['', 'EVENT_REMAP', 'EVENT_REMAP,EVENT_UNMAP,EVENT_REMOVE']) {
      it(`goes also from a memfd that stays registered: ${mode} ${features}`, 'poisonGoesFromRegistered', [
        mode,
        features,
      ]);
    }
  }
});

it('is not confused by a second mapping of memory that is registered', 'doubledMapping');
it('does not fill what it is to keep armed where it cannot see what is', 'fillsWithoutPagemap');
it('names the feature that was not asked for', 'featuresNotAskedFor');
it('tells how far each ioctl came that stopped half way (B17)', 'stopsHalfWay');
