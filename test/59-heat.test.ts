import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirtyTracker, Region, renderHeat, type DirtyPages } from '../lib/index.js';
import { PAGE, touch } from './scenarios/dirty-support.js';

/** One look after each list of pages. */
function looks(pages: number, ...written: number[][]): DirtyPages[] {
  const region = Region.allocate({ bytes: pages * PAGE });
  using tracker = new DirtyTracker(region);
  return written.map((list) => {
    for (const page of list) touch(region.bytes, page, 1);
    return tracker.collect();
  });
}

test('it draws pages in address order, hot when written just now', () => {
  const history = looks(10, [0, 1], [1], [2], [], [9]);
  assert.equal(renderHeat(history, { columns: 10, color: false }), '.:+      #');
  assert.equal(renderHeat(looks(10, []), { columns: 10, color: false }), '          ');
});

test('it draws how often instead', () => {
  const history = looks(6, [0, 1], [1, 2], [1, 2], [1, 2], [1]);
  assert.equal(renderHeat(history, { columns: 6, color: false, by: 'often' }), '.#+   ');
});

test('it makes a cell as hot as the hottest page in it', () => {
  const history = looks(64, [0, 17], [40], [41]);
  assert.equal(renderHeat(history, { columns: 4, color: false }), '::# ');
  assert.equal(renderHeat(history, { columns: 8, rows: 2, color: false }), ':   :   \n  #     ');
  const picture = renderHeat(history, { columns: 32, rows: 4, color: false });
  assert.equal(picture.split('\n').length, 2, 'one page is the smallest cell');
});

test('it draws every cell for ranges that share one, also in memory that is no multiple of it', () => {
  const history = looks(7, [0, 2, 4, 6]);
  assert.equal(renderHeat(history, { columns: 3, color: false, by: 'often' }), '###');
});

test('it colours: one sequence for neighbours alike, and none left on', () => {
  const picture = renderHeat(looks(6, [2, 3]), { columns: 6, color: true });
  assert.equal(picture, '\u001b[48;5;234m  \u001b[48;5;196m  \u001b[48;5;234m  \u001b[0m');
});

test('it draws memory that grew meanwhile, and one of several', () => {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const region = Region.allocate({ bytes: PAGE });
  using tracker = new DirtyTracker([region, memory]);
  const before = tracker.collect();
  memory.grow(1);
  const after = tracker.collect();
  assert.equal(before.memoryByteLength(1), 65_536);
  assert.equal(after.memoryByteLength(1), 131_072);
  assert.equal(renderHeat([before, after], { columns: 4, color: false, memory: 1 }), '  ##');
});

test('it refuses what it cannot draw', () => {
  const history = looks(4, [1]);
  assert.throws(() => renderHeat([]), { code: 'ERR_INVALID_ARG_VALUE' });
  for (const columns of [0, -1, 1.5]) {
    assert.throws(() => renderHeat(history, { columns }), { code: 'ERR_OUT_OF_RANGE' });
  }
  assert.throws(() => renderHeat(history, { memory: 1, columns: 4 }), { code: 'ERR_OUT_OF_RANGE' });
  // @ts-expect-error the type forbids it too
  assert.throws(() => renderHeat(history, { by: 'size' }), { code: 'ERR_INVALID_ARG_VALUE' });
  // @ts-expect-error the type forbids it too
  assert.throws(() => renderHeat(history[0]), { code: 'ERR_INVALID_ARG_TYPE' });
  // @ts-expect-error the type forbids it too
  assert.throws(() => renderHeat(history, { color: 'yes' }), { code: 'ERR_INVALID_ARG_TYPE' });
});
