import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DirtyTracker, Region } from '../lib/index.js';
import { PAGE } from './scenarios/dirty-support.js';
import { everythingHolds } from './support/every-engine.js';
import { withHugePages } from './support/huge-pages.js';
import { ENGINES } from './support/privilege.js';
import { passScenario } from './support/scenario.js';

/** What each of them does differently is said where it matters. */
for (const engine of ENGINES) {
  describe(engine, () => everythingHolds(engine));
}

for (const engine of ENGINES) {
  test(`it tells by the address whose memory a buffer is: ${engine} (B7)`, () => {
    using region = Region.allocate({ bytes: 16 * PAGE, backing: 'memfd', shared: true });
    using alias = region.alias();
    // What a Worker gets of it: another object.
    const posted = structuredClone(region.buffer) as SharedArrayBuffer;
    for (const memory of [posted, new Uint8Array(posted, 4 * PAGE, 4 * PAGE)]) {
      using tracker = new DirtyTracker(memory, { engine });
      alias.bytes[5 * PAGE]! += 1;
      const at = ArrayBuffer.isView(memory) ? PAGE : 5 * PAGE;
      assert.deepEqual([...tracker.collect()], [{ offset: at, length: PAGE }]);
      assert.equal(tracker.collect().isEmpty, true);
    }
  });
}

// Reserving huge pages is root's.
const testAsRoot = process.getuid!() === 0 ? test : (): void => undefined;

void testAsRoot('it knows the pages of a huge page’s buffer by their address', async () => {
  await withHugePages(2, () => {
    const region = Region.allocate({ bytes: 2 ** 21, backing: 'hugetlb', shared: true });
    const { bytes, pageSize } = region;
    const posted = structuredClone(bytes);
    using tracker = new DirtyTracker(posted);
    bytes[5 * PAGE] = 1;
    const dirty = tracker.collect();
    assert.equal(dirty.pageSize, pageSize);
    assert.deepEqual([...dirty], [{ offset: 0, length: pageSize }]);
    tracker.close();
    region.close();
    return Promise.resolve();
  });
});

for (const which of ['posted', 'alias']) {
  test(`it sees writes through a buffer whose region is gone, and into it: ${which} (B7)`, async () => {
    await passScenario('backings', 'postedAndForgotten', { args: [which], nodeArgs: ['--expose-gc'] });
  });
}

test('it costs about the same for each of 20,000 trackers as for each of 5,000', async () => {
  await passScenario('dirty', 'manyTrackers', { timeoutMs: 60_000 });
});

test('it gives each of many overlapping trackers what was written in its own pages (B19)', async () => {
  await passScenario('dirty', 'overlappingTrackers', { timeoutMs: 30_000 });
});

for (const seed of ['1', '2', '3']) {
  test(`it keeps for each what others collected, however seldom it looks: seed ${seed} (B19)`, async () => {
    await passScenario('dirty', 'trackersThatLag', { args: [seed], timeoutMs: 60_000 });
  });
}

test('it keeps what others collected while the memory grows (B19)', async () => {
  await passScenario('dirty', 'trackersOfGrowingMemory');
});
