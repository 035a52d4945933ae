// The engine that needs no userfaultfd. What it reports is in test 50, for all engines; here is what it
// costs, and how a program comes to use it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirtyTracker, Region } from '../lib/index.js';
import { PAGE, pagesOf, touch } from './scenarios/dirty-support.js';
import { passScenario } from './support/scenario.js';

const BARRED = { EPERM: 1, ENOSYS: 38 };

for (const [code, errno] of Object.entries(BARRED)) {
  for (const asNobody of [false, true]) {
    const who = asNobody ? 'an ordinary user' : 'root';
    test(`it goes on by comparing where userfaultfd is barred (${code}), with one warning: ${who}`, async () => {
      const { stdout, stderr } = await passScenario('compare', 'barred', { args: [String(errno)], asNobody });
      const warnings = JSON.parse(stdout) as { code: string; message: string }[];
      assert.deepEqual(
        warnings.map((warning) => warning.code),
        ['UFFD_FALLBACK'],
      );
      // An ordinary user may see the errno of the device instead.
      assert.match(warnings[0]!.message, asNobody ? /EPERM|ENOSYS|EACCES/ : new RegExp(code));
      assert.equal(stderr.match(/\[UFFD_FALLBACK\]/g)?.length, 1);
      assert.match(stderr, /npx userfaultfd doctor/);
    });
  }
}

test('it takes snapshots and puts them back by comparing, of memory that is not shared', async () => {
  await passScenario('compare', 'barredSnapshots');
});

test('it looks at memory that a Userfaultfd has registered and armed', async () => {
  await passScenario('compare', 'ofRegisteredMemory');
});

test('it warns nobody who asked for it', async () => {
  await passScenario('compare', 'askedFor');
});

test('it needs no PAGEMAP_SCAN', async () => {
  await passScenario('compare', 'withoutScan');
});

test('it neither reads nor copies what was never touched', async () => {
  await passScenario('compare', 'holesCostNothing');
});

test('it looks nowhere where memory was unmapped behind its back', async () => {
  await passScenario('compare', 'looksNowhereUnmapped');
});

test('it takes nothing for zero that is on a disk', async () => {
  await passScenario('compare', 'onADisk');
});

test('it stores no page of zeros, and gives back the copy of what became zero', async () => {
  await passScenario('compare', 'zerosAreNotStored');
});

test('it reports no neighbour: only bytes of the memory itself are compared (B9)', () => {
  const whole = Buffer.alloc(8 * PAGE);
  const view = whole.subarray(PAGE + 100, 4 * PAGE + 200);
  using tracker = new DirtyTracker(view, { engine: 'compare' });
  whole[PAGE + 99] = 1;
  whole[4 * PAGE + 200] = 1;
  assert.equal(tracker.collect().isEmpty, true);
  whole[PAGE + 100] = 1;
  assert.equal(tracker.collect().has(0), true);
});

test('it follows memory that grows far beyond its first size, keeping what it knows', () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 512 });
  const bytes = (): Uint8Array => new Uint8Array(memory.buffer);
  bytes().fill(1);
  using tracker = new DirtyTracker(memory, { engine: 'compare' });
  let pages = 16;
  for (let step = 0; step < 9; step++) {
    touch(bytes(), 3, step + 2);
    memory.grow(pages / 16);
    const grown = Array.from({ length: pages }, (_, i) => pages + i);
    assert.deepEqual(pagesOf(tracker.collect()), [3, ...grown]);
    pages *= 2;
    touch(bytes(), pages - 1, 1);
    assert.deepEqual(pagesOf(tracker.collect()), [pages - 1]);
  }
});

test('it compares the bytes of a view and no others of its buffer', () => {
  const region = Region.allocate({ bytes: 8 * PAGE });
  using tracker = new DirtyTracker(new Float64Array(region.buffer, 2 * PAGE, PAGE / 8), {
    engine: 'compare',
  });
  touch(region.bytes, 1, 1);
  touch(region.bytes, 3, 1);
  assert.equal(tracker.collect().isEmpty, true);
  region.bytes[3 * PAGE - 1] = 1;
  assert.deepEqual([...tracker.collect()], [{ offset: 0, length: PAGE }]);
});
