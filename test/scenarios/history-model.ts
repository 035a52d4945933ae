// Writes, entries, ways back, deletions, growth and shrinking, mixed by a seeded generator, held against
// plain copies.

import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { Region, SnapshotHistory, type DirtyEngine, type Trackable } from '../../lib/index.js';
import { offsetOf, PAGE, pagesOf, resizableBuffer, seeded } from './dirty-support.js';

interface Memory {
  source: Trackable;
  bytes: () => Uint8Array;
}

interface Entry {
  copies: Buffer[];
  state: number;
  parent: number | undefined;
}

const NO_ENTRY = { code: 'ERR_UFFD_NO_ENTRY' };

export function historyAgainstModel(rounds: string, seed: string, engineName: string, limit: string): void {
  const engine = engineName as DirtyEngine;
  const maxEntries = limit === '' ? undefined : Number(limit);
  const random = seeded(Number(seed));
  const region = Region.allocate({ bytes: 300 * PAGE });
  const plain = new WebAssembly.Memory({ initial: 1, maximum: 40 });
  const resizable = resizableBuffer(20 * PAGE + 100, 200 * PAGE);
  const whole = Buffer.alloc(100 * PAGE);
  const view = whole.subarray(3 * PAGE + 77, 90 * PAGE + 1234);
  const small = new Uint8Array(100);
  const tiny = new Uint8Array(16);
  const memories: Memory[] = [
    { source: region, bytes: () => region.bytes },
    { source: plain, bytes: () => new Uint8Array(plain.buffer) },
    { source: resizable, bytes: () => new Uint8Array(resizable) },
    { source: view, bytes: () => view },
    { source: small, bytes: () => small },
    { source: tiny, bytes: () => tiny },
  ];
  let state = 0;
  using history = new SnapshotHistory<number>(
    memories.map(({ source }) => source),
    {
      engine,
      save: () => state,
      restore: (saved) => (state = saved),
      ...(maxEntries === undefined ? {} : { maxEntries }),
    },
  );
  const entries = new Map<number, Entry>();
  const dropped: number[] = [];
  /** What the next entry will be made of. */
  let parent: number | undefined;
  const counts: Record<string, number> = {};

  const copies = (): Buffer[] => memories.map(({ bytes }) => Buffer.from(bytes()));
  const someEntry = (): number | undefined => [...entries.keys()][random(Math.max(entries.size, 1))];
  const expectAt = (id: number, what: string): void => {
    const entry = entries.get(id)!;
    assert.equal(state, entry.state, what);
    for (const [i, { bytes }] of memories.entries()) {
      const now = bytes();
      const then = entry.copies[i]!;
      assert.equal(Buffer.compare(now.subarray(0, then.byteLength), then), 0, `${what}: memory ${i}`);
      assert.ok(
        now.subarray(then.byteLength).every((byte) => byte === 0),
        `${what}: what grew in memory ${i}`,
      );
    }
  };
  const fits = (id: number): boolean =>
    memories.every(({ bytes }, i) => bytes().byteLength >= entries.get(id)!.copies[i]!.byteLength);
  const forget = (id: number): void => {
    for (const entry of entries.values()) if (entry.parent === id) entry.parent = entries.get(id)!.parent;
    if (parent === id) parent = entries.get(id)!.parent;
    entries.delete(id);
    dropped.push(id);
  };
  const goTo = (id: number, how: () => unknown, what: string): void => {
    if (fits(id)) {
      how();
      expectAt(id, what);
      parent = id;
      return;
    }
    const before = copies();
    assert.throws(how, { code: 'ERR_UFFD_SHRUNK' }, what);
    assert.deepEqual(copies(), before, `${what}: nothing was written`);
  };
  const expectDiff = (a: Buffer[], b: Buffer[], actual: ReturnType<SnapshotHistory['diff']>): void => {
    for (const [i, { bytes }] of memories.entries()) {
      assert.deepEqual(pagesOf(actual.of(i), bytes()), differing(a[i]!, b[i]!, bytes()), `memory ${i}`);
      assert.equal(actual.memoryByteLength(i), Math.max(a[i]!.byteLength, b[i]!.byteLength));
    }
  };

  const actions = {
    writesBytes() {
      const bytes = memories[random(memories.length)]!.bytes();
      for (let i = random(12); i > 0 && bytes.byteLength > 0; i--)
        bytes[random(bytes.byteLength)] = random(256);
    },
    fillsARun() {
      const bytes = memories[random(memories.length)]!.bytes();
      const from = random(bytes.byteLength + 1);
      bytes.subarray(from, from + random(100 * PAGE)).fill(random(3));
    },
    writesByASystemCall() {
      const bytes = memories[random(2)]!.bytes();
      const from = random(bytes.byteLength - 100);
      randomFillSync(bytes, from, 100);
    },
    writesWhatTheyHold() {
      const bytes = memories[random(memories.length)]!.bytes();
      for (let i = 0; i < bytes.byteLength; i += PAGE) bytes[i] = bytes[i]!;
    },
    writesNeighbours() {
      whole[3 * PAGE + random(77)] = random(256);
      whole[90 * PAGE + 1234 + random(500)] = random(256);
    },
    changesState() {
      state = random(1000);
    },
    discards() {
      region.discard(random(200) * PAGE, (1 + random(100)) * PAGE);
    },
    grows() {
      if (plain.buffer.byteLength < 35 * 65_536) plain.grow(1);
      resizable.resize(Math.min(resizable.byteLength + random(9 * PAGE), 200 * PAGE));
    },
    shrinks() {
      resizable.resize(Math.max(resizable.byteLength - random(15 * PAGE), 0));
    },
    shrinksAndGrows() {
      const size = resizable.byteLength;
      resizable.resize(random(size + 1));
      resizable.resize(size);
    },
    takes() {
      const id = history.take(`entry ${random(100)}`);
      entries.set(id, { copies: copies(), state, parent });
      parent = id;
      while (entries.size > (maxEntries ?? Infinity)) forget(entries.keys().next().value!);
      expectAt(id, 'take');
    },
    restores() {
      const id = someEntry();
      if (id !== undefined) goTo(id, () => history.restore(id), 'restore');
    },
    undoes() {
      const current = history.current;
      const target = current === undefined ? parent : entries.get(current)!.parent;
      if (target === undefined) assert.equal(history.undo(), undefined);
      else goTo(target, () => history.undo(), 'undo');
    },
    redoes() {
      const before = copies();
      const canRedo = history.canRedo;
      try {
        const stats = history.redo();
        assert.equal(stats !== undefined, canRedo);
      } catch (error) {
        assert.equal((error as { code: string }).code, 'ERR_UFFD_SHRUNK');
        assert.deepEqual(copies(), before);
        return;
      }
      if (canRedo) {
        expectAt(history.current!, 'redo');
        parent = history.current;
      } else {
        assert.deepEqual(copies(), before);
      }
    },
    deletes() {
      const id = someEntry();
      if (id === undefined || random(2) === 0) return;
      const before = copies();
      history.delete(id);
      forget(id);
      assert.deepEqual(copies(), before);
    },
    comparesTwo() {
      const [a, b] = [someEntry(), someEntry()];
      if (a === undefined || b === undefined) return;
      expectDiff(entries.get(a)!.copies, entries.get(b)!.copies, history.diff(a, b));
    },
    comparesWithNow() {
      const id = someEntry();
      if (id !== undefined) expectDiff(entries.get(id)!.copies, copies(), history.diff(id));
    },
    reads() {
      const id = someEntry();
      if (id === undefined) return;
      const memory = random(memories.length);
      const { byteLength } = entries.get(id)!.copies[memory]!;
      if (byteLength === 0) return;
      const offset = random(byteLength);
      const length = 1 + random(byteLength - offset);
      const wanted = entries.get(id)!.copies[memory]!.subarray(offset, offset + length);
      assert.equal(Buffer.compare(history.read(id, offset, length, memory), wanted), 0);
    },
    asksForWhatIsGone() {
      const id = dropped[random(Math.max(dropped.length, 1))] ?? 10 ** 9;
      assert.throws(() => history.restore(id), NO_ENTRY);
      assert.throws(() => history.delete(id), NO_ENTRY);
    },
  };
  const names = Object.keys(actions) as (keyof typeof actions)[];
  for (let round = 0; round < Number(rounds); round++) {
    const name = names[random(names.length)]!;
    counts[name] = (counts[name] ?? 0) + 1;
    try {
      actions[name]();
    } catch (error) {
      (error as Error).message = `round ${round}, ${name}: ${(error as Error).message}`;
      throw error;
    }
    assert.deepEqual(
      history.entries.map(({ id }) => id),
      [...entries.keys()],
      `round ${round}, ${name}`,
    );
    assert.deepEqual(
      history.entries.map((entry) => entry.parent),
      [...entries.values()].map((entry) => entry.parent),
      `round ${round}, ${name}`,
    );
  }
  // Every entry, also those nothing went back to.
  resizable.resize(200 * PAGE);
  for (const id of entries.keys()) goTo(id, () => history.restore(id), 'in the end');
  for (const id of [...entries.keys()]) history.delete(id);
  assert.equal(history.bytes, 0, 'nothing is left');
  console.log(JSON.stringify({ rounds: Number(rounds), entries: entries.size, ...counts }));
}

/** Pages of two states of a memory that differ, bytes that only one has being zeros. */
function differing(a: Buffer, b: Buffer, bytes: Uint8Array): number[] {
  const length = Math.max(a.byteLength, b.byteLength);
  const [left, right] = [Buffer.alloc(length), Buffer.alloc(length)];
  a.copy(left);
  b.copy(right);
  const pages: number[] = [];
  const lead = PAGE - offsetOf(1, bytes);
  for (let page = 0; page * PAGE - lead < length; page++) {
    const [from, to] = [Math.max(page * PAGE - lead, 0), (page + 1) * PAGE - lead];
    if (Buffer.compare(left.subarray(from, to), right.subarray(from, to)) !== 0) pages.push(page);
  }
  return pages;
}
