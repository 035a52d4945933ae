// What a program does that nobody should write: it neither hangs nor crashes, and no answer is wrong.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { passScenario, type ScenarioOptions } from './support/scenario.js';

function it(title: string, scenario: string, options: ScenarioOptions = {}): void {
  void test(title, async () => {
    await passScenario('abuse', scenario, options);
  });
}

describe('a Worker that ends in the middle', () => {
  it('of its own event iterator leaves the process alive', 'exitInIterator', { timeoutMs: 20_000 });
  for (const call of ['state', 'collect', 'open', 'restore', 'capabilities', 'storm']) {
    it(`of ${call} calls leaves the process alive`, 'terminateInCall', { timeoutMs: 30_000, args: [call] });
  }
});

describe('a caller whose getters close what the call works on', () => {
  for (const victim of ['collect', 'peek', 'restore', 'diff', 'closeRegion']) {
    it(`gets an answer or an error from ${victim}`, 'closeInGetter', { args: [victim] });
  }
});

describe('memory that closes while a thread of the pool writes to it', () => {
  it('takes the write and harms nobody', 'closeUnderRandomFill');
  it('does not pass the write to memory that came after it', 'closeUnderRead');
});

test('it frees a fork whose event no descriptor is left for (D3, A4)', async () => {
  const { stdout } = await passScenario('abuse', 'forkWithoutDescriptors', { timeoutMs: 60_000 });
  assert.match(stdout, /[1-9]\d* forks, [1-9]\d* children/);
});

it('lets a writer go on while another thread arms its memory without pause', 'armWithoutPause', {
  timeoutMs: 30_000,
});

it('keeps no record for each write that a tracker was not asked about', 'neverAsked', {
  timeoutMs: 60_000,
  nodeArgs: ['--expose-gc'],
});

it('takes no torn snapshot of a buffer whose edges a Worker toggles (B5, B9)', 'toggledEdges', {
  timeoutMs: 60_000,
});

it(
  'takes no torn snapshot of memories that overlap while a Worker toggles two words (B5)',
  'toggledOverlap',
  {
    timeoutMs: 60_000,
  },
);
