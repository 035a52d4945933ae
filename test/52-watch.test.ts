import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { afterEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { DirtyTracker, Region, type DirtyPages } from '../lib/index.js';
import { PAGE, pagesOf, PageWriter, seeded, sorted, touch } from './scenarios/dirty-support.js';
import { passScenario } from './support/scenario.js';

const busy = { code: 'ERR_UFFD_BUSY' };
const aborted = { name: 'AbortError', code: 'ABORT_ERR' };
/** Longer than a test waits, short enough for a run that fails. */
const LONG_MS = 8000;

const opened: DirtyTracker[] = [];
// A watch that never ends by itself would keep this process.
afterEach(() => {
  for (const tracker of opened.splice(0)) tracker.close();
});

function tracked(pages = 64): { region: Region; bytes: Uint8Array; tracker: DirtyTracker } {
  const region = Region.allocate({ bytes: pages * PAGE });
  const tracker = new DirtyTracker(region);
  opened.push(tracker);
  return { region, bytes: region.bytes, tracker };
}

/** Fails instead of waiting as long as the interval. */
async function soon<T>(promise: Promise<T>, what: string): Promise<T> {
  const limit = new AbortController();
  const late = delay(3000, undefined, { signal: limit.signal }).then(
    () => assert.fail(`${what} took longer than 3 s`),
    () => assert.fail('cancelled'),
  );
  late.catch(() => undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    limit.abort();
  }
}

test('it yields what was written, and nothing while nothing was', async () => {
  const { bytes, tracker } = tracked();
  const seen: number[][] = [];
  touch(bytes, 1, 1);
  // Empty looks lie between the writes: the interval is a tenth of the pause.
  const pauses = [[5], [6, 7], [5]];
  for await (const dirty of tracker.watch({ intervalMs: 2 })) {
    assert.equal(dirty.isEmpty, false);
    seen.push(pagesOf(dirty));
    const next = pauses.shift();
    if (next === undefined) break;
    void delay(20).then(() => {
      for (const page of next) touch(bytes, page, 1);
    });
  }
  assert.deepEqual(seen, [[1], [5], [6, 7], [5]]);
});

test('it can be iterated itself, with the interval of the default', async () => {
  const { bytes, tracker } = tracked();
  touch(bytes, 3, 1);
  let rounds = 0;
  for await (const dirty of tracker) {
    assert.deepEqual(pagesOf(dirty), [rounds === 0 ? 3 : 9]);
    if (++rounds === 2) break;
    touch(bytes, 9, 1);
  }
  assert.equal(rounds, 2);
});

test('it looks once per interval', async () => {
  const { bytes, tracker } = tracked();
  touch(bytes, 0, 1);
  const started = performance.now();
  let looks = 0;
  for await (const dirty of tracker.watch({ intervalMs: 50 })) {
    assert.deepEqual(pagesOf(dirty), [looks]);
    if (++looks === 5) break;
    touch(bytes, looks, 1);
  }
  assert.ok(performance.now() - started >= 4 * 49, 'four intervals lie between five looks');
});

test('it rejects with AbortError when the signal was aborted before', async () => {
  const { bytes, tracker } = tracked();
  touch(bytes, 2, 1);
  const reason = new Error('no more');
  const watching = tracker.watch({ signal: AbortSignal.abort(reason) });
  await assert.rejects(watching.next(), { ...aborted, cause: reason });
  assert.deepEqual(await watching.next(), { done: true, value: undefined });
  assert.deepEqual(pagesOf(tracker.collect()), [2], 'nothing was taken');
});

test('it rejects with AbortError when the signal is aborted while it waits', async () => {
  const { tracker } = tracked();
  const controller = new AbortController();
  const watching = tracker.watch({ intervalMs: LONG_MS, signal: controller.signal });
  const next = watching.next();
  setImmediate(() => controller.abort());
  await assert.rejects(soon(next, 'the abort'), aborted);
  const again = tracker.watch({ intervalMs: 1 });
  await again.return?.();
});

test('it rejects with AbortError when the signal is aborted inside the loop', async () => {
  const { bytes, tracker } = tracked();
  const controller = new AbortController();
  touch(bytes, 2, 1);
  let rounds = 0;
  await assert.rejects(async () => {
    for await (const dirty of tracker.watch({ intervalMs: LONG_MS, signal: controller.signal })) {
      assert.deepEqual(pagesOf(dirty), [2]);
      rounds++;
      touch(bytes, 3, 1);
      controller.abort();
    }
  }, aborted);
  assert.equal(rounds, 1);
  assert.deepEqual(pagesOf(tracker.collect()), [3], 'what was not yielded is still there');
});

test('it leaves no listener on the signal', async () => {
  const { bytes, tracker } = tracked();
  const controller = new AbortController();
  const { signal } = controller;
  let rounds = 0;
  touch(bytes, 1, 1);
  for await (const dirty of tracker.watch({ intervalMs: 1, signal })) {
    assert.equal(dirty.pageCount, 1);
    assert.ok(getEventListeners(signal, 'abort').length <= 1, `round ${rounds}`);
    if (++rounds === 20) break;
    touch(bytes, rounds, 1);
  }
  assert.deepEqual(getEventListeners(signal, 'abort'), []);
});

test('it can be watched again after a break, from where that ended', async () => {
  const { bytes, tracker } = tracked();
  for (let round = 0; round < 3; round++) {
    touch(bytes, round, 1);
    for await (const dirty of tracker.watch({ intervalMs: 1 })) {
      assert.deepEqual(pagesOf(dirty), [round]);
      break;
    }
  }
});

test('it can be watched again after the loop threw', async () => {
  const { bytes, tracker } = tracked();
  touch(bytes, 1, 1);
  await assert.rejects(async () => {
    for await (const dirty of tracker.watch()) throw new Error(`${dirty.pageCount} pages`);
  }, /^Error: 1 pages$/);
  await tracker.watch().return?.();
});

test('it can be watched by one at a time: ERR_UFFD_BUSY', async () => {
  const { bytes, tracker } = tracked();
  const first = tracker.watch({ intervalMs: 1 });
  assert.throws(() => tracker.watch(), busy);
  assert.throws(() => tracker[Symbol.asyncIterator](), busy);
  touch(bytes, 4, 1);
  const next = await first.next();
  assert.deepEqual(pagesOf(next.value as DirtyPages), [4], 'the first is not disturbed');
  assert.throws(() => tracker.watch(), busy);
  await first.return?.();
  await tracker.watch().return?.();
});

test('it is free again when a watch that was never iterated is returned', async () => {
  const { bytes, tracker } = tracked();
  const never = tracker.watch();
  assert.deepEqual(await never.return?.(), { done: true, value: undefined });
  touch(bytes, 1, 1);
  for await (const dirty of tracker.watch({ intervalMs: 1 })) {
    assert.deepEqual(pagesOf(dirty), [1]);
    break;
  }
  assert.deepEqual(await never.next(), { done: true, value: undefined });
});

test('it is free again when the signal of a watch was aborted already', async () => {
  const { bytes, tracker } = tracked();
  const watching = tracker.watch({ signal: AbortSignal.abort() });
  await assert.rejects(watching.next(), aborted);
  touch(bytes, 1, 1);
  for await (const dirty of tracker.watch({ intervalMs: 1 })) {
    assert.deepEqual(pagesOf(dirty), [1]);
    break;
  }
});

test('it ends when the tracker closes, without waiting for the interval', async () => {
  const { tracker } = tracked();
  const watching = tracker.watch({ intervalMs: LONG_MS });
  const next = watching.next();
  setImmediate(() => tracker.close());
  assert.deepEqual(await soon(next, 'the end'), { done: true, value: undefined });
  assert.throws(() => tracker.watch(), { code: 'ERR_UFFD_CLOSED' });
});

test('it ends when the tracker closes inside the loop', async () => {
  const { bytes, tracker } = tracked();
  touch(bytes, 1, 1);
  let rounds = 0;
  for await (const dirty of tracker.watch({ intervalMs: 1 })) {
    rounds += dirty.pageCount;
    tracker.close();
  }
  assert.equal(rounds, 1);
});

test('it ends a next() that waits when it is returned, without waiting for the interval', async () => {
  const { tracker } = tracked();
  const watching = tracker.watch({ intervalMs: LONG_MS });
  const next = watching.next();
  await new Promise((resolve) => setImmediate(resolve));
  const returned = watching.return?.();
  assert.deepEqual(await soon(next, 'next()'), { done: true, value: undefined });
  assert.deepEqual(await soon(returned!, 'return()'), { done: true, value: undefined });
  await tracker.watch().return?.();
});

test('it rejects when the memory goes away under it, and can then be closed', async () => {
  const { region, tracker } = tracked();
  const watching = tracker.watch({ intervalMs: 1 });
  const next = watching.next();
  setImmediate(() => region.close());
  await assert.rejects(soon(next, 'the rejection'), { code: 'ERR_UFFD_CLOSED' });
  assert.deepEqual(await watching.next(), { done: true, value: undefined });
  tracker.close();
});

test('it loses nothing to a slow reader: the union of what it yields is what was written', async () => {
  const random = seeded(52);
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
  await using writer = new PageWriter(memory);
  const tracker = new DirtyTracker(memory);
  const written = new Set<number>();
  const yielded = new Set<number>();
  let rounds = 0;
  writer.write([0], 1);
  written.add(0);
  for await (const dirty of tracker.watch({ intervalMs: 1 })) {
    for (const page of pagesOf(dirty)) {
      assert.ok(written.has(page), `page ${page} was written`);
      yielded.add(page);
    }
    if (++rounds > 30) break;
    // Slower than the interval, with writes before and after the wait of the reader.
    for (let burst = 0; burst < 3; burst++) {
      const pages = Array.from({ length: 10 }, () => random(256));
      writer.write(pages, rounds);
      for (const page of pages) written.add(page);
      await delay(random(4));
    }
  }
  for (const page of pagesOf(tracker.collect())) yielded.add(page);
  assert.deepEqual(sorted(yielded), sorted(written));
  tracker.close();
});

test('it refuses options that cannot be, and stays free', async () => {
  const { tracker } = tracked();
  for (const intervalMs of [0, -1, NaN, Infinity, 2 ** 31]) {
    assert.throws(() => tracker.watch({ intervalMs }), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
  }
  // @ts-expect-error the type forbids it too
  assert.throws(() => tracker.watch({ intervalMs: '5' }), { code: /^ERR_/ });
  // @ts-expect-error the type forbids it too
  assert.throws(() => tracker.watch({ signal: {} }), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  // @ts-expect-error the type forbids it too
  assert.throws(() => tracker.watch({ interval: 5 }), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /intervalMs, signal/,
  });
  await tracker.watch().return?.();
});

test('it does not keep a process from exiting when its loop ended', async () => {
  const result = await passScenario('dirty', 'watchThenEnd');
  assert.ok(result.sinceReadyMs < 2000, `over ${result.sinceReadyMs} ms after the break`);
});

test('it can be watched again when the iterator was dropped, and a pending next() is not dropped', async () => {
  await passScenario('dirty', 'droppedWatch', { nodeArgs: ['--expose-gc'] });
});

test('it waits for the longest interval a timer can take', async () => {
  await passScenario('dirty', 'longestInterval');
});
