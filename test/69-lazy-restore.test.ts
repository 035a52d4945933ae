// Lazy restore: the memory has its content at once, and its pages are loaded as they are touched.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { MEMORIES } from './scenarios/copy-on-write-kinds.js';
import { fillPages } from './scenarios/copy-on-write-support.js';
import { PAGE } from './scenarios/dirty-support.js';
import { withHugePages } from './support/huge-pages.js';
import { passScenario, runScenario, type ScenarioOptions } from './support/scenario.js';

const asNobody = process.getuid!() === 0;

function it(title: string, scenario: string, args: string[] = [], options: ScenarioOptions = {}): void {
  test(title, async () => {
    await passScenario('lazy-restore', scenario, { args, timeoutMs: 30_000, ...options });
  });
}

/** The process ends by SIGBUS. */
function dies(title: string, scenario: string, args: string[]): void {
  test(title, async () => {
    const result = await runScenario('lazy-restore', scenario, { args });
    const said = `\n${result.stdout}${result.stderr}`;
    assert.match(result.stdout, /READY/, said);
    assert.equal(result.signal, 'SIGBUS', `ended with code ${result.code}${said}`);
  });
}

for (const resolver of ['loop', 'in-thread']) {
  describe(`a lazy restore, resolver ${resolver}`, { concurrency: 2 }, () => {
    for (const kind of Object.keys(MEMORIES).filter((name) => name !== 'private memfd')) {
      test(`loads what is touched, then the rest: ${kind}`, async () => {
        const run = (): Promise<unknown> =>
          passScenario('lazy-restore', 'everyKind', { args: [kind, resolver] });
        await (kind.includes('hugetlb') ? withHugePages(8, run) : run());
      });
    }
    for (const kind of Object.keys(MEMORIES).filter((name) => !name.startsWith('private'))) {
      test(`keeps clean what it loads under tracking, and dirty what is written: ${kind} (B16)`, async () => {
        const run = (): Promise<unknown> =>
          passScenario('lazy-restore', 'tracked', { args: [kind, resolver] });
        await (kind.includes('hugetlb') ? withHugePages(8, run) : run());
      });
    }
    it('keeps 1,000 pages clean and tells of 10 that are written (B16)', 'thousandPages', [resolver]);
    it('goes with tracking that ends, or is of a part, or is a snapshot’s', 'otherTracking', [resolver]);
    for (const kind of ['anonymous', 'memfd', 'shared Wasm memory']) {
      it(`is finished for a history of it that was there before: ${kind} (B20)`, 'historyWhileLoading', [
        kind,
        resolver,
      ]);
    }
    it('tells a snapshot that looks just before it begins', 'looksBeforeEmptied', [resolver]);
    it('begins with all of the file, however slow its loop (B3)', 'slowToBegin', [resolver]);
    it('is finished for an alias that is made while it begins (B7)', 'aliasMeanwhile', [resolver]);
    for (const kind of ['anonymous', 'memfd', 'shared: true, memfd', 'shared Wasm memory']) {
      it(`leaves nothing that cannot be used again: ${kind}`, 'heals', [kind, resolver]);
    }
    for (const kind of ['anonymous', 'memfd', 'Wasm memory', 'shared Wasm memory']) {
      for (const when of ['before', 'meanwhile']) {
        it(`that failed is told to who reads the memory: ${kind}, ${when} (B3, B20)`, 'readsLost', [
          kind,
          resolver,
          when,
        ]);
      }
      for (const how of ['file', 'snapshot', 'captured', 'history']) {
        it(`that failed is made good by who overwrites the memory: ${kind}, ${how}`, 'overwritesLost', [
          kind,
          resolver,
          how,
        ]);
      }
    }
    it('leaves a tracker alive when its file is damaged', 'damagedUnderTracking', [resolver]);
    for (const tracking of ['open', 'looked', 'closed']) {
      it(`loads memory of two mappings: tracking ${tracking}`, 'twoMappings', [tracking, resolver]);
    }
    for (const who of ['tracker', 'snapshot', 'history']) {
      it(`is finished for who finds the memory grown: ${who} (B20)`, 'grewBefore', [who, resolver]);
    }
    test('loads several memories from a chain of files', async () => {
      await withHugePages(4, () => passScenario('lazy-restore', 'severalMemories', { args: [resolver] }));
    });
    it('loads first what was touched first the last time', 'replaysOrder', [resolver]);
    it('is right for everybody who touches it at once', 'everybody', [resolver], { timeoutMs: 300_000 });
    it('serves system calls, or lets them fail with EFAULT', 'systemCalls', [resolver]);

    for (const who of [
      'snapshot',
      'copy-on-write',
      'copy-on-write in-thread',
      'history',
      'tracker',
      'tracker wp-sync',
      'tracker compare',
      'register',
      'move',
      'another restore',
    ]) {
      it(`is finished for who wants all of the memory: ${who} (B20)`, 'wholeForOthers', [who, resolver]);
    }
    it('is finished for a tracker that compares (B20)', 'comparedBefore', [resolver]);
    it('leaves memory alone that something else holds', 'heldByOthers', [resolver]);

    it('gives no page back its bytes that was discarded (B23)', 'discards', [resolver]);
    it('gives none back that was being read for a thread (B23)', 'discardsUnderTouch', [resolver]);
    for (const how of ['flipped', 'truncated']) {
      it(`says that its file is damaged, and makes up no zeros: ${how} (B3)`, 'damage', [how, resolver]);
      dies(`kills who touches what it has lost: ${how} (B3, C4)`, 'touchesDamage', [how, resolver]);
    }
    for (const how of ['exit', 'throw', 'natural']) {
      test(`goes on while the process ends: ${how} (B3)`, async () => {
        const directory = mkdtempSync(path.join(tmpdir(), 'uffd-lazy-'));
        try {
          const out = path.join(directory, 'out');
          const result = await runScenario('lazy-restore', 'exitHalfWay', { args: [how, resolver, out] });
          assert.equal(result.code, how === 'throw' ? 1 : 0, result.stdout + result.stderr);
          const expected = Buffer.alloc(256 * PAGE);
          fillPages(expected.subarray(0, 192 * PAGE));
          for (let page = 0; page < 256; page += 5) expected.fill(0, page * PAGE, (page + 1) * PAGE);
          assert.equal(Buffer.compare(readFileSync(out), expected), 0, 'what the Worker wrote');
        } finally {
          rmSync(directory, { recursive: true });
        }
      });
    }
    it('goes on when the Worker that began it ends', 'ownerGoes', ['worker', resolver]);
    it('goes on when its object is forgotten', 'ownerGoes', ['forgotten', resolver], {
      nodeArgs: ['--expose-gc'],
    });
    it('ends when its region is closed', 'memoryGoes', ['closed', resolver]);
    it('ends when its memory is collected', 'memoryGoes', ['collected', resolver], {
      nodeArgs: ['--expose-gc'],
    });
    for (const backing of ['anonymous', 'memfd']) {
      for (const how of ['closed', 'discarded', 'touched']) {
        it(`waits for no turn when nothing is left to load: ${backing}, ${how}`, 'nothingLeft', [
          how,
          backing,
          resolver,
        ]);
      }
    }
    it('keeps no child waiting', 'children', [resolver]);
    it('leaves no descriptor and no thread', 'leavesNothing', [resolver]);
  });
}

it('refuses what it cannot load into, and touches nothing', 'refuses');
it('says what an ordinary user can do', 'ordinaryUser', [], { asNobody });
