// One memory in several threads: handles, attached regions, shared buffers.

import { test } from 'node:test';
import { KINDS } from './scenarios/backing-kinds.js';
import { withHugePages } from './support/huge-pages.js';
import { passScenario, type ScenarioOptions } from './support/scenario.js';

const BUFFERS = ['private', 'shared'] as const;
const collected: ScenarioOptions = { nodeArgs: ['--expose-gc'], timeoutMs: 30_000 };

async function pass(scenario: string, args: string[] = [], options: ScenarioOptions = {}): Promise<void> {
  const run = (): Promise<unknown> => passScenario('region-handles', scenario, { ...options, args });
  await (KINDS[args[0] ?? '']?.hugetlb === true ? withHugePages(16, run) : run());
}

for (const name of Object.keys(KINDS)) {
  for (const buffer of BUFFERS) {
    const what = `${name} memory${buffer === 'shared' ? ' in a SharedArrayBuffer' : ''}`;

    test(`it attaches ${what} in a Worker: one memory, two lives`, async () => {
      await pass('bothSeeTheBytes', [name, buffer]);
    });

    test(`it keeps ${what} when the Worker that attached it ends`, async () => {
      await pass('survivesTheWorker', [name, buffer]);
    });

    test(`it keeps ${what} when the Worker that made it ends`, async () => {
      await pass('survivesItsMaker', [name, buffer]);
    });
  }
}

for (const buffer of BUFFERS) {
  test(`it keeps memory that one thread forgot and another has (${buffer} buffer)`, async () => {
    await pass('forgottenHere', [buffer], collected);
  });

  test(`it lets a Worker serve the faults of the main thread (${buffer} buffer)`, async () => {
    await pass('workerServesFaults', [buffer]);
  });
}

test('it attaches and closes in every order, and nothing stays mapped', async () => {
  await pass('manyLives', [], collected);
});

test('it goes on with a shared buffer, atomics and all, after its region is closed', async () => {
  await pass('sharedBufferGoesOn');
});

test('it has shared buffers also where there is no WebAssembly', async () => {
  await pass('bothSeeTheBytes', ['memfd', 'shared'], { nodeArgs: ['--jitless'] });
});

test('it refuses forged, foreign and stale handles with ERR_UFFD_HANDLE', async () => {
  await pass('refusesHandles');
});
