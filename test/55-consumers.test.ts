// Several readers of one tracker, and pages that somebody names: markDirty and discard.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DirtyTracker, Region, type DirtyEngine, type DirtyPages, type Trackable } from '../lib/index.js';
import { PAGE, pageRun, pagesOf, seeded, sorted, touch, WASM } from './scenarios/dirty-support.js';
import { ENGINES } from './support/privilege.js';
import { passScenario } from './support/scenario.js';

const closed = { code: 'ERR_UFFD_CLOSED' };

for (const engine of ENGINES) describe(engine, () => everythingHolds(engine));

function everythingHolds(engine: DirtyEngine): void {
  const track = (memory: Trackable | readonly Trackable[]): DirtyTracker =>
    new DirtyTracker(memory, { engine });

  test('it reports each write once to each consumer, whoever looks first (B19)', () => {
    const region = Region.allocate({ bytes: 64 * PAGE });
    const random = seeded(55);
    const first = track(region);
    const readers = [first, first.consumer(), first.consumer()].map((tracker) => ({
      tracker,
      due: new Set<number>(),
    }));
    for (let round = 1; round <= 300; round++) {
      for (let i = random(6); i > 0; i--) {
        const page = random(64);
        region.bytes[page * PAGE + round]!++;
        for (const { due } of readers) due.add(page);
      }
      const { tracker, due } = readers[random(readers.length)]!;
      const peeks = random(3) === 0;
      assert.deepEqual(pagesOf(peeks ? tracker.peek() : tracker.collect()), sorted(due), `round ${round}`);
      if (!peeks) due.clear();
    }
    for (const { tracker } of readers) tracker.close();
  });

  test('a consumer has seen what was written before it came', () => {
    const region = Region.allocate({ bytes: 8 * PAGE });
    using tracker = track(region);
    touch(region.bytes, 1, 1);
    using late = tracker.consumer();
    assert.equal(late.engine, engine);
    assert.equal(late.exact, tracker.exact);
    assert.deepEqual(pagesOf(late.collect()), []);
    touch(region.bytes, 2, 1);
    assert.deepEqual(pagesOf(late.peek()), [2]);
    assert.deepEqual(pagesOf(tracker.collect()), [1, 2], 'nothing is lost to the one before');
    assert.deepEqual(pagesOf(late.collect()), [2]);
  });

  test('it outlives the tracker it came from', () => {
    const region = Region.allocate({ bytes: 8 * PAGE });
    const tracker = track(region);
    using other = tracker.consumer();
    touch(region.bytes, 1, 1);
    tracker.close();
    assert.throws(() => tracker.consumer(), closed);
    touch(region.bytes, 2, 1);
    assert.deepEqual(pagesOf(other.collect()), [1, 2]);
    using third = other.consumer();
    touch(region.bytes, 3, 1);
    assert.deepEqual(pagesOf(third.collect()), [3]);
    assert.deepEqual(pagesOf(other.collect()), [3]);
    region.close();
    assert.throws(() => other.collect(), closed);
    assert.throws(() => other.consumer(), closed);
  });

  test('it tells every consumer of growth, once each (B2)', () => {
    const memory = new WebAssembly.Memory({ initial: 1 });
    const region = Region.allocate({ bytes: 4 * PAGE });
    using tracker = track([region, memory]);
    using other = tracker.consumer();
    touch(region.bytes, 1, 1);
    memory.grow(1);
    using late = tracker.consumer();
    touch(new Uint8Array(memory.buffer), 3, 1);
    for (const each of [other, tracker]) {
      const dirty = each.collect();
      assert.deepEqual(pagesOf(dirty.of(0)), [1]);
      assert.deepEqual(pagesOf(dirty.of(1)), [3, ...pageRun(WASM, WASM)]);
      assert.equal(each.collect().isEmpty, true);
    }
    assert.deepEqual(pagesOf(late.collect().of(1)), [3], 'it came after the growth');
  });

  test('it is watched by as many as there are consumers', async () => {
    const region = Region.allocate({ bytes: 8 * PAGE });
    using tracker = track(region);
    using other = tracker.consumer();
    touch(region.bytes, 1, 1);
    const seen = await Promise.all(
      [tracker, other].map(async (each) => {
        for await (const dirty of each.watch({ intervalMs: 1 })) return pagesOf(dirty);
        return undefined;
      }),
    );
    assert.deepEqual(seen, [[1], [1]]);
  });

  test('it yields only when as many pages were written as were asked for', async () => {
    const region = Region.allocate({ bytes: 8 * PAGE });
    using tracker = track(region);
    const watching = tracker.watch({ intervalMs: 1, minPages: 3 });
    touch(region.bytes, 1, 1);
    touch(region.bytes, 2, 1);
    const next = watching.next();
    let settled = false;
    void next.then(() => (settled = true));
    // Ten looks: each is a timer after the one before.
    for (let look = 0; look < 10; look++) await new Promise((resolve) => setTimeout(resolve, 2));
    assert.equal(settled, false);
    touch(region.bytes, 5, 1);
    assert.deepEqual(pagesOf((await next).value as DirtyPages), [1, 2, 5]);
    touch(region.bytes, 6, 1);
    await watching.return?.();
    assert.deepEqual(pagesOf(tracker.collect()), [6], 'what was too little is still there');
    for (const minPages of [0, -1, 1.5, NaN]) {
      assert.throws(() => tracker.watch({ minPages }), { code: 'ERR_OUT_OF_RANGE' });
    }
  });

  test('it reports pages that were marked, whoever marked them (B6)', () => {
    const region = Region.allocate({ bytes: 16 * PAGE });
    const memory = new WebAssembly.Memory({ initial: 1 });
    using tracker = track([region, memory]);
    using other = tracker.consumer();
    tracker.markDirty({ offset: 3 * PAGE + 5, length: PAGE });
    other.markDirty({ length: 1 }, 1);
    touch(region.bytes, 9, 1);
    for (const each of [tracker, other]) {
      assert.deepEqual(pagesOf(each.peek().of(0)), [3, 4, 9]);
      const dirty = each.collect();
      assert.deepEqual(pagesOf(dirty.of(0)), [3, 4, 9]);
      assert.deepEqual(pagesOf(dirty.of(1)), [0]);
      assert.equal(each.collect().isEmpty, true);
    }
    tracker.markDirty();
    assert.equal(tracker.collect().of(0).pageCount, 16);
    const both = other.collect();
    tracker.markDirty(both);
    assert.deepEqual(tracker.collect(), both, 'a set of pages goes back as it came');
  });

  test('it refuses to mark what is not there', () => {
    const region = Region.allocate({ bytes: 4 * PAGE });
    using tracker = track(region);
    assert.throws(() => tracker.markDirty({ offset: 4 * PAGE }), { code: 'ERR_OUT_OF_RANGE' });
    assert.throws(() => tracker.markDirty({ offset: 0, length: 5 * PAGE }), { code: 'ERR_OUT_OF_RANGE' });
    assert.throws(() => tracker.markDirty({}, 1), { code: 'ERR_OUT_OF_RANGE' });
    // @ts-expect-error the type forbids it too
    assert.throws(() => tracker.markDirty(5), { code: 'ERR_INVALID_ARG_TYPE' });
    using two = track([region, region]);
    assert.throws(() => two.markDirty(tracker.collect()), { code: 'ERR_INVALID_ARG_VALUE' });
    assert.equal(tracker.collect().isEmpty, true);
    tracker.close();
    assert.throws(() => tracker.markDirty(), closed);
    assert.throws(() => tracker.discard(), closed);
  });

  test('it gives pages back to the kernel: they read as zero and count as written', () => {
    const region = Region.allocate({ bytes: 8 * PAGE });
    const memory = new WebAssembly.Memory({ initial: 1 });
    region.bytes.fill(1, 0, 4 * PAGE);
    const bytes = new Uint8Array(memory.buffer).fill(1);
    using tracker = track([region, memory]);
    using other = tracker.consumer();
    // Pages 4 and 5 were zero before.
    tracker.discard({ offset: 2 * PAGE, length: 4 * PAGE });
    tracker.discard({ offset: 15 * PAGE }, 1);
    for (const each of [tracker, other]) {
      const dirty = each.collect();
      assert.deepEqual(pagesOf(dirty.of(0)), [2, 3, 4, 5]);
      assert.deepEqual(pagesOf(dirty.of(1)), [15]);
    }
    assert.deepEqual([region.bytes[2 * PAGE - 1], region.bytes[2 * PAGE], bytes[15 * PAGE]], [1, 0, 0]);
    assert.throws(() => tracker.discard({ offset: 1 }), { code: 'ERR_OUT_OF_RANGE' });
    using foreign = new DirtyTracker(new Uint8Array(4 * PAGE));
    assert.throws(() => foreign.discard(), { code: 'ERR_INVALID_ARG_VALUE' });
  });

  test('it makes a copy equal to memory that never holds still, also when the sink fails (B8)', async () => {
    const { stdout } = await passScenario('dirty-stress', 'copyFollowsMemory', { args: [engine] });
    const { failed } = JSON.parse(stdout) as { failed: number };
    assert.ok(failed > 0, 'the sink failed now and then');
  });
}
