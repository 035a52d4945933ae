import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { Region, SnapshotHistory, Userfaultfd, type SnapshotHistoryOptions } from '../lib/index.js';
import { KINDS, PAGE, pagesOf, resizableBuffer, touch, WASM, WASM_PAGE } from './scenarios/dirty-support.js';
import { passScenario } from './support/scenario.js';
import { withHugePages } from './support/huge-pages.js';

const noEntry = { code: 'ERR_UFFD_NO_ENTRY' };
const closed = { code: 'ERR_UFFD_CLOSED' };

/** Of bytes: that an entry of much memory is of one instant is shown in another way than of little. */
const SIZES = [2 ** 18, 2 ** 27].map(String);

/** A history with an entry for each value, which the first byte has. */
function counted(
  values: readonly number[],
  options?: SnapshotHistoryOptions,
): { region: Region; history: SnapshotHistory; ids: number[] } {
  const region = Region.allocate({ bytes: 8 * PAGE });
  const history = new SnapshotHistory(region, options);
  const ids = values.map((value) => {
    region.bytes[0] = value;
    return history.take(`value ${value}`);
  });
  return { region, history, ids };
}

for (const how of ['region', 'buffer', 'posted buffer', 'bytes of it']) {
  for (const engine of ['auto', 'compare'] as const) {
    if (how !== 'region' && engine === 'compare') continue;
    test(`an entry has what was written through another mapping: ${how}, ${engine} (B7)`, () => {
      const shared = how !== 'region';
      const region = Region.allocate({ bytes: 16 * PAGE, backing: 'memfd', shared });
      const alias = region.alias();
      region.bytes.fill(1);
      const posted = structuredClone(region.buffer);
      const start = how === 'bytes of it' ? 3 * PAGE + 100 : 0;
      const memory = {
        region,
        buffer: region.buffer,
        'posted buffer': posted,
        // With the rest of its first and last page somebody else's.
        'bytes of it': new Uint8Array(posted, start, 4 * PAGE),
      }[how]!;
      using history = new SnapshotHistory(memory, { engine });
      const one = history.take();
      alias.bytes[start] = 76;
      alias.bytes[5 * PAGE] = 77;
      const before = Buffer.from(region.bytes);
      const two = history.take();
      const length = history.read(two).length;
      assert.equal(Buffer.compare(history.read(two), before.subarray(start, start + length)), 0);
      const ranges = [...history.diff(one, two)];
      assert.equal(history.diff(one, two).pageCount, 2);
      assert.deepEqual([...history.diff(one)], ranges);
      alias.bytes[5 * PAGE + 7] = 78;
      assert.equal(history.diff(two).pageCount, 1);
      history.restore(two);
      assert.equal(Buffer.compare(region.bytes, before), 0);
      history.restore(one);
      assert.ok(region.bytes.every((byte) => byte === 1));
    });
  }
}

for (const kind of KINDS) {
  test(`it goes back to any entry: ${kind.name}`, () => {
    const { memory, bytes } = kind.make(4 * WASM);
    using history = new SnapshotHistory(memory);
    const copies = new Map<number, Buffer>();
    for (let i = 1; i <= 10; i++) {
      touch(bytes, i * 3, i);
      bytes[0] = i;
      bytes[bytes.byteLength - 1] = i;
      copies.set(history.take(), Buffer.from(bytes));
    }
    for (const id of [3, 10, 1, 7, 7, 2]) {
      history.restore(id);
      assert.equal(Buffer.compare(bytes, copies.get(id)!), 0, `entry ${id}`);
      assert.equal(Buffer.compare(history.read(id), copies.get(id)!), 0, `entry ${id}`);
      assert.equal(history.diff(id).isEmpty, true);
    }
  });
}

test('it goes back at the price of the pages that differ', () => {
  const region = Region.allocate({ bytes: 1024 * PAGE });
  region.bytes.fill(1);
  using history = new SnapshotHistory(region);
  const first = history.take();
  for (let page = 0; page < 5; page++) {
    touch(region.bytes, page * 100, 2);
    history.take();
  }
  touch(region.bytes, 900, 3);
  assert.deepEqual(history.restore(first), { pages: 6, bytes: 6 * PAGE, different: 0 });
  assert.deepEqual(history.restore(first), { pages: 0, bytes: 0, different: 0 });
  assert.deepEqual(history.restore(3), { pages: 2, bytes: 2 * PAGE, different: 0 });
});

test('an entry costs the pages written since the one before, and pages of zeros nothing', () => {
  const region = Region.allocate({ bytes: 1024 * PAGE });
  for (let page = 0; page < 100; page++) touch(region.bytes, page, 1);
  using history = new SnapshotHistory(region);
  const tables = (pages: number): number => (9 + pages) * 64 * 2;
  const added = (): number => {
    history.take();
    return history.entries.at(-1)!.addedBytes;
  };
  const first = added();
  assert.ok(first >= 100 * PAGE && first <= 100 * PAGE + tables(100), `${first}`);
  const none = added();
  assert.ok(none <= tables(0), `${none}`);
  for (let page = 0; page < 10; page++) touch(region.bytes, 500 + page, 1);
  const ten = added();
  assert.ok(ten >= 10 * PAGE && ten <= 10 * PAGE + tables(10), `${ten}`);
  region.bytes.fill(0);
  const zeros = added();
  assert.ok(zeros <= tables(110), `${zeros}`);
  const sum = history.entries.reduce((bytes, entry) => bytes + entry.addedBytes, 0);
  assert.equal(history.bytes, sum);
});

test('it keeps what other entries need when one is deleted, and frees the rest', () => {
  const { region, history, ids } = counted([1, 2, 3]);
  touch(region.bytes, 5, 9);
  const last = history.take();
  for (const id of [ids[0]!, ids[2]!]) {
    const before = history.bytes;
    const { bytes } = history.entries.find((entry) => entry.id === id)!;
    history.delete(id);
    assert.equal(before - history.bytes, bytes, 'it told what deleting frees');
    assert.throws(() => history.restore(id), noEntry);
    assert.throws(() => history.delete(id), noEntry);
    assert.throws(() => history.read(id), noEntry);
    assert.throws(() => history.diff(last, id), noEntry);
  }
  history.restore(ids[1]!);
  assert.equal(region.bytes[0], 2);
  history.restore(last);
  assert.deepEqual([region.bytes[0], region.bytes[5 * PAGE]], [3, 9]);
  history.delete(ids[1]!);
  history.delete(last);
  assert.equal(history.bytes, 0);
  assert.deepEqual([region.bytes[0], region.bytes[5 * PAGE]], [3, 9], 'the memory stays as it is');
  const again = history.take();
  region.bytes.fill(0);
  history.restore(again);
  assert.deepEqual([region.bytes[0], region.bytes[5 * PAGE]], [3, 9], 'an entry after all were deleted');
  history.close();
});

test('undo and redo walk the entries, and an entry after an undo begins a branch', () => {
  const { region, history, ids } = counted([1, 2, 3]);
  const at = (): number | undefined => region.bytes[0];
  assert.deepEqual([history.canUndo, history.canRedo, history.current], [true, false, 3]);
  assert.equal(history.redo(), undefined);
  region.bytes[0] = 99;
  assert.equal(history.undo()!.pages, 1);
  assert.equal(at(), 2, 'what was written and not taken is lost');
  history.undo();
  assert.equal(at(), 1);
  assert.deepEqual([history.canUndo, history.canRedo, history.current], [false, true, 1]);
  region.bytes[0] = 50;
  assert.equal(history.undo(), undefined);
  assert.equal(at(), 50, 'nothing was done');
  history.redo();
  history.redo();
  assert.equal(at(), 3);
  history.undo();
  region.bytes[0] = 4;
  const branch = history.take('branch');
  assert.equal(history.canRedo, false);
  history.undo();
  history.redo();
  assert.equal(at(), 4, 'redo follows the branch it was on last');
  history.restore(ids[2]!);
  history.undo();
  assert.equal(at(), 2);
  history.redo();
  assert.equal(at(), 3, 'so it does after a restore to the other');
  assert.deepEqual(
    history.entries.map(({ id, parent, label }) => [id, parent, label]),
    [
      [1, undefined, 'value 1'],
      [2, 1, 'value 2'],
      [3, 2, 'value 3'],
      [branch, 2, 'branch'],
    ],
  );
  history.delete(ids[1]!);
  assert.deepEqual(
    history.entries.map(({ id, parent }) => [id, parent]),
    [
      [1, undefined],
      [3, 1],
      [branch, 1],
    ],
  );
  history.undo();
  assert.equal(at(), 1, 'undo passes over an entry that was deleted');
  history.redo();
  assert.equal(at(), 3);
  history.delete(ids[2]!);
  assert.equal(history.current, undefined);
  history.undo();
  assert.equal(at(), 1, 'also from one that was deleted');
  history.redo();
  assert.equal(at(), 4);
  history.close();
});

test('it drops the oldest beyond maxEntries', () => {
  const { region, history, ids } = counted([1, 2, 3, 4, 5], { maxEntries: 3 });
  assert.deepEqual(
    history.entries.map(({ id, parent }) => [id, parent]),
    [
      [3, undefined],
      [4, 3],
      [5, 4],
    ],
  );
  for (const id of ids.slice(0, 2)) {
    assert.throws(() => history.restore(id), { ...noEntry, message: /no entry \d: .*limit/ });
    assert.equal(region.bytes[0], 5, 'nothing was written');
  }
  history.restore(3);
  assert.equal(region.bytes[0], 3);
  region.bytes[0] = 6;
  history.take();
  assert.equal(history.undo(), undefined, 'what it was made of was the oldest, and is dropped');
  history.close();
});

test('it drops the oldest beyond maxBytes, and throws ERR_UFFD_HISTORY_FULL when one alone is larger', () => {
  const region = Region.allocate({ bytes: 100 * PAGE });
  using history = new SnapshotHistory(region, { maxBytes: 50 * PAGE });
  for (let i = 1; i <= 10; i++) {
    region.bytes.fill(i, 0, 10 * PAGE);
    history.take();
    assert.ok(history.bytes <= 50 * PAGE, `${history.bytes}`);
  }
  assert.equal(history.size, 4);
  region.bytes.fill(1);
  const before = history.entries;
  assert.throws(() => history.take(), { code: 'ERR_UFFD_HISTORY_FULL', message: /maxBytes, 204800/ });
  assert.deepEqual(history.entries, before, 'none was dropped');
  history.restore(10);
  assert.ok(region.bytes.subarray(0, 10 * PAGE).every((byte) => byte === 10));
  assert.ok(
    region.bytes.subarray(10 * PAGE).every((byte) => byte === 0),
    'it had lost no page',
  );
  region.bytes.fill(2, 0, 20 * PAGE);
  const last = history.take();
  assert.equal(Buffer.compare(history.read(last), region.bytes), 0);
});

test('it tells two entries apart by their bytes, and one from the memory now', () => {
  const region = Region.allocate({ bytes: 16 * PAGE });
  using history = new SnapshotHistory(region);
  const a = history.take();
  touch(region.bytes, 3, 1);
  touch(region.bytes, 4, 0);
  const b = history.take();
  touch(region.bytes, 3, 0);
  touch(region.bytes, 8, 1);
  assert.deepEqual(pagesOf(history.diff(a, b)), [3]);
  assert.deepEqual(pagesOf(history.diff(b, a)), [3]);
  assert.equal(history.diff(b, b).isEmpty, true);
  assert.deepEqual(pagesOf(history.diff(a)), [8]);
  assert.deepEqual(pagesOf(history.diff(b)), [3, 8]);
});

test('it follows Wasm memory that grows: the rest reads as zero', () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 10 });
  const bytes = (): Uint8Array => new Uint8Array(memory.buffer);
  using history = new SnapshotHistory(memory);
  bytes().fill(1);
  const small = history.take();
  memory.grow(2);
  bytes().fill(2);
  const large = history.take();
  assert.deepEqual(
    history.entries.map(({ byteLengths }) => byteLengths),
    [[WASM_PAGE], [3 * WASM_PAGE]],
  );
  history.restore(small);
  assert.equal(bytes().byteLength, 3 * WASM_PAGE);
  assert.ok(bytes().every((byte, i) => byte === (i < WASM_PAGE ? 1 : 0)));
  memory.grow(1);
  history.restore(large);
  assert.ok(bytes().every((byte, i) => byte === (i < 3 * WASM_PAGE ? 2 : 0)));
  assert.equal(history.diff(small, large).byteLength, 3 * WASM_PAGE);
  assert.equal(history.read(small).byteLength, WASM_PAGE);
  assert.throws(() => history.read(small, WASM_PAGE, 1), { code: 'ERR_OUT_OF_RANGE' });
});

test('it throws ERR_UFFD_SHRUNK for an entry that was larger, and writes nothing', () => {
  const buffer = resizableBuffer(4 * PAGE, 8 * PAGE);
  const other = Region.allocate({ bytes: PAGE });
  let called = 0;
  using history = new SnapshotHistory([other, buffer], {
    restore: () => {
      called++;
    },
  });
  new Uint8Array(buffer).fill(1);
  const large = history.take();
  buffer.resize(2 * PAGE + 10);
  other.bytes[0] = 5;
  const small = history.take();
  assert.throws(() => history.restore(large), { code: 'ERR_UFFD_SHRUNK' });
  assert.throws(() => history.undo(), { code: 'ERR_UFFD_SHRUNK' });
  assert.deepEqual([other.bytes[0], called, history.current], [5, 0, small]);
  assert.ok(history.diff(large).pageCount >= 2);
  buffer.resize(8 * PAGE);
  history.restore(large);
  assert.ok(new Uint8Array(buffer).every((byte, i) => byte === (i < 4 * PAGE ? 1 : 0)));
  history.restore(small);
  assert.ok(new Uint8Array(buffer).every((byte, i) => byte === (i < 2 * PAGE + 10 ? 1 : 0)));
});

test('its hooks keep what is not in the memory', () => {
  const global = new WebAssembly.Global({ value: 'i32', mutable: true }, 0);
  const { region, history, ids } = counted([], {
    save: () => global.value,
    restore: (value) => {
      // What a hook writes to the memory does not stay.
      region.bytes[1] = 77;
      global.value = value as number;
    },
  });
  for (let i = 1; i <= 3; i++) {
    global.value = i * 10;
    region.bytes[0] = i;
    ids.push(history.take());
  }
  history.restore(ids[0]!);
  assert.deepEqual([global.value, region.bytes[0], region.bytes[1]], [10, 1, 0]);
  history.redo();
  assert.deepEqual([global.value, region.bytes[0]], [20, 2]);
  history.close();
});

test('a hook that throws leaves everything as it was', () => {
  const { region, history } = counted([]);
  history.close();
  let fail = false;
  const hook = (): void => {
    if (fail) throw new Error('no');
  };
  using other = new SnapshotHistory(region, { save: hook, restore: hook });
  region.bytes[0] = 1;
  other.take();
  region.bytes[0] = 2;
  other.take();
  region.bytes[0] = 3;
  fail = true;
  const before = inspect([other, other.entries, other.canUndo, other.canRedo]);
  for (const how of [() => other.take(), () => other.restore(1), () => other.undo()]) {
    assert.throws(how, /^Error: no$/);
    assert.equal(region.bytes[0], 3);
    assert.equal(inspect([other, other.entries, other.canUndo, other.canRedo]), before);
  }
  fail = false;
  other.undo();
  assert.equal(region.bytes[0], 1);
});

test('it cannot be used in its own hooks, but closed', () => {
  const region = Region.allocate({ bytes: PAGE });
  let within = (): unknown => undefined;
  const history = new SnapshotHistory(region, { save: () => within(), restore: () => void within() });
  const first = history.take();
  for (const use of [
    () => history.take(),
    () => history.restore(first),
    () => history.undo(),
    () => history.delete(first),
  ]) {
    within = use;
    assert.throws(() => history.take(), { code: 'ERR_UFFD_BUSY' });
    assert.throws(() => history.restore(first), { code: 'ERR_UFFD_BUSY' });
  }
  within = () => history.close();
  assert.throws(() => history.restore(first), closed);
  assert.throws(() => history.take(), closed);
});

test('it names what it does not take', () => {
  const region = Region.allocate({ bytes: PAGE });
  const make = (options: object): SnapshotHistory => new SnapshotHistory(region, options);
  for (const options of [{ maxEntries: 0 }, { maxEntries: 1.5 }, { maxBytes: -1 }, { maxBytes: NaN }]) {
    assert.throws(() => make(options), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
  }
  for (const options of [
    { maxEntries: '3' },
    { save: 1 },
    { restore: {} },
    { engine: 1 },
    { outsideWriters: 1 },
  ]) {
    assert.throws(() => make(options), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  }
  assert.throws(() => make({ save: async () => Promise.resolve() }), { code: 'ERR_INVALID_ARG_VALUE' });
  assert.throws(() => make({ engine: 'magic' }), { code: 'ERR_INVALID_ARG_VALUE' });
  assert.throws(() => make({ limit: 1 }), { code: 'ERR_INVALID_ARG_VALUE', message: /known: maxEntries/ });
  assert.throws(() => new SnapshotHistory([]), { code: 'ERR_INVALID_ARG_VALUE' });
  assert.throws(() => new SnapshotHistory(new SharedArrayBuffer(8), { engine: 'compare' }), {
    code: 'ERR_INVALID_ARG_VALUE',
  });
  using history = make({});
  assert.throws(() => history.take(1 as unknown as string), { code: 'ERR_INVALID_ARG_TYPE' });
  for (const id of [0, -1, 1.5, NaN]) assert.throws(() => history.restore(id), { code: 'ERR_OUT_OF_RANGE' });
  assert.throws(() => history.restore('1' as unknown as number), { code: 'ERR_INVALID_ARG_TYPE' });
  assert.throws(() => history.restore(1), noEntry);
  using uffd = Userfaultfd.open();
  const taken = Region.allocate({ bytes: PAGE });
  uffd.register(taken, 'write-protect');
  assert.throws(() => new SnapshotHistory([region, taken]), { code: 'ERR_UFFD_BUSY' });
});

test('it throws ERR_UFFD_DETACHED when a buffer is gone, and keeps its entries', () => {
  const buffer = new ArrayBuffer(4 * PAGE);
  const other = Region.allocate({ bytes: 4 * PAGE });
  using history = new SnapshotHistory([other, buffer]);
  const first = history.take();
  other.bytes.fill(1);
  structuredClone(buffer, { transfer: [buffer] });
  for (const how of [() => history.take(), () => history.restore(first), () => history.diff(first)]) {
    assert.throws(how, { code: 'ERR_UFFD_DETACHED' });
  }
  assert.ok(other.bytes.every((byte) => byte === 1));
  assert.equal(history.read(first, 0, undefined, 1).byteLength, 4 * PAGE);
});

test('it throws ERR_UFFD_CLOSED after close(), closes with its region, and prints well', () => {
  const { region, history, ids } = counted([1, 2]);
  assert.match(inspect(history), /^SnapshotHistory \{ 2 entries, at 2, \d+ bytes \}$/);
  region.close();
  assert.equal(history.closed, true);
  history.close();
  history[Symbol.dispose]();
  assert.equal(inspect(history), 'SnapshotHistory { closed }');
  assert.deepEqual([history.size, history.bytes, history.current, history.canUndo], [0, 0, undefined, false]);
  for (const how of [
    () => history.take(),
    () => history.restore(ids[0]!),
    () => history.undo(),
    () => history.redo(),
    () => history.diff(1, 2),
    () => history.read(1),
    () => history.delete(1),
    () => history.entries,
  ]) {
    assert.throws(how, closed);
  }
});

for (const kind of ['anonymous', 'memfd', 'private memfd', 'hugetlb', 'private hugetlb']) {
  test(`it keeps entries of ${kind} memory, page by page`, async () => {
    const run = (): Promise<unknown> => passScenario('history', 'kindOfMemory', { args: [kind] });
    await (kind.includes('hugetlb') ? withHugePages(8, run) : run());
  });
}

for (const how of ['two threads', 'no thread', 'the other begins too late', 'written meanwhile']) {
  test(`an entry of many pages is of one instant, copied by two: ${how}`, async () => {
    await passScenario('history', 'manyPages', { args: [how] });
  });
}

test('it is of one instant where a page that others share lies in the midst of a memory', async () => {
  await passScenario('history', 'writtenBackInTheMidst');
});

test('an entry may have more pages than are noted at once', async () => {
  await passScenario('history', 'veryManyPages', { timeoutMs: 30_000 });
});

test('it has one second thread for all entries, which sleeps between two', async () => {
  await passScenario('history', 'helperRests');
});

test('several threads take entries at once, each with a second thread', async () => {
  await passScenario('history', 'severalHelped', { timeoutMs: 30_000 });
});

for (const when of ['begun', 'not begun']) {
  for (const what of ['asked for', 'told', 'taken', 'compared', 'restored', 'deleted', 'closed']) {
    test(`its tables are kept up by a second thread, ${when} when the history is ${what}`, async () => {
      await passScenario('history', 'keptUpMeanwhile', { args: [when, what] });
    });
  }
}

test('who comes late to what was left to be done finds nothing that was not handed over', async () => {
  await passScenario('history', 'droppedBeforeHandOver');
});

for (const seed of ['1', '2', '3']) {
  test(`what is left of a history is the same, whoever gives back what was dropped: seed ${seed}`, async () => {
    await passScenario('history', 'droppedInTurns', { args: [seed], timeoutMs: 60_000 });
  });
}

for (const what of ['taken', 'deleted', 'closed']) {
  test(`nobody waits for the memory of the next entry, which is being made when the history is ${what}`, async () => {
    await passScenario('history', 'warmedMeanwhile', { args: [what] });
  });
}

test('it never waits for a second thread that waits for it (D1)', async () => {
  await passScenario('history', 'helperFaults');
});

for (const how of ['through another mapping', 'through a new mapping', 'and the next look fails']) {
  test(`an entry is of one instant when a page is written while it copies, ${how} (B5, B7)`, async () => {
    for (const bytes of SIZES) await passScenario('history', 'writtenWhileCopying', { args: [how, bytes] });
  });
}

for (const by of ['a thread that slept', 'a thread that is awake', 'this thread']) {
  test(`an entry of much memory is of one instant when ${by} writes meanwhile (B5)`, async () => {
    await passScenario('history', 'muchMemoryWrittenMeanwhile', { args: [by], timeoutMs: 60_000 });
  });
}

test('it takes what another tracker collected while it copied (B19)', async () => {
  await passScenario('history', 'collectedByAnother');
});

test('it loses nothing when a Worker writes after each pass and there is no instant (B8)', async () => {
  for (const bytes of SIZES) {
    await passScenario('history', 'torn', { args: [bytes], timeoutMs: 30_000 });
  }
});

for (const kind of ['anonymous', 'memfd', 'Wasm memory']) {
  for (const when of ['before', 'after']) {
    test(`it makes up no zeros where a userfaultfd fills holes: ${kind}, registered ${when} it`, async () => {
      await passScenario('history', 'registered', { args: [kind, when] });
    });
  }
}

test('it tells what a Worker wrote between putting a page back and arming it', async () => {
  await passScenario('history', 'writtenDuringRestore');
});

test('it loses nothing when a scan fails after it was done (B18)', async () => {
  await passScenario('history', 'failedScan');
});

test('it does not make memory resident that was never touched', async () => {
  await passScenario('history', 'sparseHistory', { timeoutMs: 30_000 });
});

test('it gives back what entries held when they are deleted, closed or forgotten', async () => {
  await passScenario('history', 'historyFreed', { timeoutMs: 30_000, nodeArgs: ['--expose-gc'] });
});

test('it takes entries of many buffers in one page of the heap (B9)', async () => {
  await passScenario('history', 'entriesOfTheHeap', { timeoutMs: 30_000 });
});

test('an entry of the same writes costs the same bytes after 2 others and after 200', async () => {
  await passScenario('history-cost', 'flatOverEntries', { args: ['8', '200'], timeoutMs: 30_000 });
});

test('an entry and the bare collect and copy of its pages can be measured in turns', async () => {
  await passScenario('history-cost', 'pauseOfAnEntry', { args: ['8', '10', '4'], timeoutMs: 30_000 });
});
