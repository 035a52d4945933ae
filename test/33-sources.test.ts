// Missing pages from a source that needs no JavaScript: zeros, other memory, a file.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { passScenario, runScenario, type ScenarioOptions } from './support/scenario.js';

function it(title: string, scenario: string, options: ScenarioOptions = {}): void {
  test(title, async () => {
    await passScenario('sources', scenario, options);
  });
}

describe('a region as a source', () => {
  it('gives the bytes of its page to whoever touches one first', 'regionAsSource');
  it('may begin anywhere, and is zeros after its end', 'partOfRegion');
  it('keeps its bytes when it is closed, until nobody reads them', 'sourceCloses', {
    nodeArgs: ['--expose-gc'],
  });
});

describe('memory in a SharedArrayBuffer as a source', () => {
  for (const kind of ['allocated', 'wasm', 'buffer']) {
    it(`gives its bytes, and stays as long as it is one: ${kind}`, 'sharedSource', {
      args: [kind],
      nodeArgs: ['--expose-gc'],
    });
  }
});

describe('a source that goes', () => {
  for (const kind of ['region', 'shared']) {
    it(`while the loop is about to read it is no crash: ${kind} (C2)`, 'sourceVanishes', {
      args: [kind],
      nodeArgs: ['--expose-gc'],
    });
  }
  it('nowhere, but is served itself, is refused by name, whichever came first (D6)', 'sourceIsServed');
});

describe('a file as a source', () => {
  it('gives its bytes, and zeros after its end, also when its name is gone', 'fileAsSource');
  it('may be a part of an open file', 'partOfFile');
  it('must be there, a regular file, readable and not empty', 'refusesFiles');
  it('serves every pool thread at once (D2)', 'poolThreads');
  it('serves every pool thread when there is one (D2)', 'poolThreads', { env: { UV_THREADPOOL_SIZE: '1' } });
  it('serves many threads at once, and nobody reads the events', 'manyThreads');
  test('poisons what it lost, and makes up no zeros (B3, C4)', async () => {
    const { signal, stdout } = await runScenario('sources', 'fileShrinks', { args: ['poison'] });
    assert.match(stdout, /READY/);
    assert.equal(signal, 'SIGBUS');
  });
  it('gives zeros for what it lost only when asked to', 'fileShrinks', { args: ['zeropage'] });
  test('poisons what it lost while it is mapped as a region (B3, C4)', async () => {
    const { signal, stdout } = await runScenario('sources', 'mappedFileShrinks', { args: ['poison'] });
    assert.match(stdout, /READY/);
    assert.equal(signal, 'SIGBUS');
  });
  it('gives zeros for what it lost while it is mapped, only when asked to', 'mappedFileShrinks', {
    args: ['zeropage'],
  });
});

describe('a source that takes its time', () => {
  for (const kind of ['file', 'mapped', 'shared']) {
    it(
      `is waited for, and its loop is not released as one that stands still: ${kind} (A8, B3)`,
      'slowSource',
      {
        args: [kind],
      },
    );
  }
  for (const how of ['unregister', 'registration', 'close']) {
    it(`gives its bytes to who waits when its registration ends: ${how} (B3)`, 'endsWhileSourceIsRead', {
      args: [how],
    });
  }
});

describe('a userfaultfd that is given up', () => {
  it('poisons what its source has, and makes up no zeros (B3)', 'givenUp', { args: ['poison'] });
  it('leaves zeros only when asked to', 'givenUp', { args: ['zeropage'] });
  // As long as this hung, a thread slept for 30 seconds and then read zeros.
  test('poisons the little that is missing at once, also of armed memory (B3)', async () => {
    const { signal, stdout } = await runScenario('sources', 'givenUpNearTheEnd', { timeoutMs: 20_000 });
    assert.equal(stdout, 'READY\n');
    assert.equal(signal, 'SIGBUS');
  });
});

it('A source whose page is poisoned has failed, and nobody dies of it', 'poisonedSource');

describe('a page with a source', () => {
  it('reads as zero once it was given back', 'discardedReadsAsZero');
  it('reads as zero once it was given back through another mapping', 'discardedElsewhere');
  it('is not moved away, to be filled again', 'notMovedAway');
  it('is never filled with bytes that were looked up before it was given back (B23)', 'discardMeetsLookUp');
  it('stays armed when it is filled (B16)', 'staysArmed');
  it('is armed by who arms while it is filled (B16)', 'armedWhileFilled');
});
