// Copy-on-write snapshots: races, losses, ends, limits and neighbours, each in both ways of resolving.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EXIT_CODE } from './scenarios/copy-on-write-life.js';
import { MEMORIES } from './scenarios/copy-on-write-kinds.js';
import { withHugePages } from './support/huge-pages.js';
import { withKsm } from './support/ksm.js';
import { passScenario, runScenario, type ScenarioOptions } from './support/scenario.js';

const RESOLVERS = ['loop', 'in-thread'];
const SOON_MS = 2000;

for (const resolver of RESOLVERS) {
  const it = (
    title: string,
    file: string,
    scenario: string,
    args: string[] = [],
    options: ScenarioOptions = {},
  ): void => {
    test(title, async () => {
      await passScenario(file, scenario, { args: [resolver, ...args], ...options });
    });
  };
  const races = (title: string, scenario: string, args?: string[], options?: ScenarioOptions): void =>
    it(title, 'copy-on-write', scenario, args, options);
  const life = (title: string, scenario: string, args?: string[], options?: ScenarioOptions): void =>
    it(title, 'copy-on-write-life', scenario, args, options);

  describe(`races, ${resolver}`, { concurrency: 2 }, () => {
    races('it lets no write through before all memories are armed (B5)', 'betweenArming');
    races('it lets no discard through before all memories are armed (B5)', 'discardBetweenArming');
    races('it has a writer wait for the page that the background claimed (B4)', 'claimedBySweep');
    races('it has the background pass the page that a writer claimed (B4)', 'claimedByWriter');
    races('it keeps the protection when a late fault of the snapshot before comes (B13)', 'lateFault');
  });

  describe(`much memory, ${resolver}`, () => {
    const arming = (title: string, scenario: string): void =>
      it(title, 'copy-on-write-arming', scenario, [], { timeoutMs: 30_000 });
    arming('it is of one instant when a second thread armed a part of it', 'byTheHelper');
    arming('it does not wait for a second thread that nobody runs', 'withoutTheHelper');
    arming('it arms nothing when the second thread fails', 'failing');
    arming('it asks nobody for help where all processors are busy', 'onABusyMachine');
  });

  describe(`pages that go, ${resolver}`, { concurrency: 2 }, () => {
    for (const kind of ['anonymous', 'memfd', 'wasm']) {
      races(`it tells when others give pages back, never a wrong byte: ${kind} (B10)`, 'givenBack', [kind]);
      races(`it captures first what Region.discard() gives back: ${kind} (B10)`, 'discarded', [
        kind,
        'ready',
      ]);
      races(`it restores what was discarded, at once: ${kind} (B10)`, 'discarded', [kind, 'restore']);
    }
    races('it waits for what it was told of pages given back before it is done (B10)', 'givenBackUnknown');
    for (const kind of ['anonymous', 'wasm']) {
      races(`it tells when the memory was moved and moved back: ${kind} (B11)`, 'remapped', [kind]);
    }
    races('it tells when other memory is mapped over a part of it (B11, C2)', 'replaced');
    races('it goes on when Wasm memory grows, and restores it (B11)', 'grown');
    test('it loses nothing to KSM (B12)', async (t) => {
      await withKsm(t, async () => {
        await passScenario('copy-on-write-kinds', 'mergedMemory', { args: [resolver], timeoutMs: 30_000 });
      });
    });
  });

  describe(`ends, ${resolver}`, { concurrency: 2 }, () => {
    const ends = (
      title: string,
      how: string,
      expected: { code?: number; signal?: string; stderr?: RegExp } = {},
    ): void => {
      test(title, async () => {
        const result = await runScenario('copy-on-write-life', 'end', { args: [resolver, how] });
        const said = `\n${result.stdout}${result.stderr}`;
        assert.match(result.stdout, /READY/, said);
        if (expected.signal === undefined) assert.equal(result.code, expected.code ?? 0, said);
        else assert.equal(result.signal, expected.signal, said);
        if (expected.stderr !== undefined) assert.match(result.stderr, expected.stderr);
        assert.ok(result.sinceReadyMs < SOON_MS, `the ending took ${Math.round(result.sinceReadyMs)} ms`);
      });
    };
    ends('it stops at once at close() (C2)', 'close');
    ends('it stops at once when its region closes (C2)', 'region');
    ends('it does not hold up process.exit() (C2)', 'exit', { code: EXIT_CODE });
    ends('it does not hold up process.exit() while somebody awaits it (C2)', 'exitAwaited', {
      code: EXIT_CODE,
    });
    ends('it does not hold up the natural end when nobody asked for `ready` (C2)', 'natural', {
      code: EXIT_CODE,
    });
    ends('it does not hold up an uncaught throw (C2)', 'throw', {
      code: 1,
      stderr: /thrown and not caught/,
    });
    ends('it does not hold up SIGTERM (C2)', 'signal', { signal: 'SIGTERM' });
    test('it keeps the process for whoever awaits `ready`', async () => {
      const { code } = await runScenario('copy-on-write-life', 'awaited', { args: [resolver] });
      assert.equal(code, EXIT_CODE);
    });
    life('it and its memory go when nobody holds them (C2, C6)', 'dropped', [], {
      nodeArgs: ['--expose-gc'],
    });
    for (const how of ['return', 'exit', 'terminate']) {
      life(`it ends with the Worker that took it, by ${how} (C2)`, 'workerEnds', [how]);
    }
    life('it tells nothing wrong to an exit listener', 'exitListenerReads');
  });

  describe(`limits, ${resolver}`, { concurrency: 2 }, () => {
    life('it fails with ERR_UFFD_SNAPSHOT_LIMIT at maxBytes, and the program goes on', 'limit');
    life('it says so at once when a writer reaches maxBytes', 'limitReachedByWriter');
    life('it says so at once when pages are lost', 'lostWhileSlow');
    life('it counts no hole against bytesPerSecond', 'rateOfHoles');
    life('it ends with the signal, before it began and after', 'aborted');
    life('it makes no unhandled rejection', 'ignoredRejections');
    life('it tells how far it is', 'progress');
    life('it tells node:diagnostics_channel', 'channels');
    life('it is whole when the channel hears of it', 'usedWhenTaken');
  });

  describe(`neighbours, ${resolver}`, { concurrency: 2 }, () => {
    life('it is finished first when a DirtyTracker begins', 'trackerMeanwhile');
    life('it cannot be taken of memory that somebody else has, and others not of its', 'busy');
    life('it is finished first when a second snapshot is taken', 'second');
    life('it is finished first when its memory is mapped a second time (B7)', 'aliasMeanwhile');
    life('it is not begun where PAGEMAP_SCAN is refused', 'withoutScan');
    life('it minds no child processes', 'children');
    life('it leaves no descriptor, thread or mapping after 1,000 of them', 'leaks', [], {
      nodeArgs: ['--expose-gc'],
      timeoutMs: 60_000,
    });
  });

  describe(`memories, ${resolver}`, () => {
    for (const kind of Object.keys(MEMORIES)) {
      test(`it is of one instant and restores it: ${kind}`, async () => {
        const run = (): Promise<unknown> =>
          passScenario('copy-on-write-kinds', 'exact', { args: [resolver, kind] });
        await (kind.includes('hugetlb') ? withHugePages(8, run) : run());
      });
    }
    it('it is of one instant of several memories at once', 'copy-on-write-kinds', 'several');
    for (const backing of ['anonymous', 'memfd']) {
      it(
        `it costs what exists: gigabytes of holes, ${backing} (B22)`,
        'copy-on-write-kinds',
        'sparse',
        [backing],
        { timeoutMs: 30_000 },
      );
    }
    test('it reads hugetlb memory that another mapping filled', async () => {
      await withHugePages(4, () =>
        passScenario('copy-on-write-kinds', 'filledThroughAlias', { args: [resolver] }),
      );
    });
  });
}

test('it has the handler of a writer find nothing to do after the snapshot let go (B13, B14)', async () => {
  await passScenario('copy-on-write', 'unprotectAfterRelease');
});

test('it tells nothing wrong once the watchdog let a writer go', async () => {
  await passScenario('copy-on-write', 'rescued');
});

test('it refuses memory that it cannot protect, by name', async () => {
  await passScenario('copy-on-write-kinds', 'refused');
});
