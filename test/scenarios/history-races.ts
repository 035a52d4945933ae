// Entries of memory that Workers write at the same time.

import assert from 'node:assert/strict';
import { SnapshotHistory, UffdError } from '../../lib/index.js';
import { assertOneInstant, chains, sharedMemories, Writers } from './snapshot-races.js';
import { wordsOf } from './snapshot-worker.js';

function takeOrTorn(history: SnapshotHistory): number | undefined {
  try {
    return history.take();
  } catch (error) {
    assert.ok(error instanceof UffdError && error.code === 'ERR_UFFD_SNAPSHOT_TORN', String(error));
    return undefined;
  }
}

/** While writers write and pause: each entry is of one instant, also after all the later ones. */
export async function entriesWithPauses(kind: string): Promise<void> {
  const memories = sharedMemories(kind);
  const slots = chains(memories);
  const now = (): number => Atomics.load(wordsOf(memories[0]!), 0);
  const entries: number[] = [];
  let torn = 0;
  let raced = 0;
  using history = new SnapshotHistory(memories);
  await using writers = new Writers(memories, slots, { burst: 3000 });
  const firstOf = (id: number): number => {
    const entry = {
      read: (offset?: number, length?: number, memory?: number) => history.read(id, offset, length, memory),
    };
    return slots.map((chain) => assertOneInstant(entry, chain))[0]!;
  };
  for (let round = 0; round < 100; round++) {
    const before = now();
    writers.go();
    let id = takeOrTorn(history);
    if (id === undefined) {
      torn++;
      writers.untilPaused();
      id = takeOrTorn(history);
      assert.ok(id !== undefined, 'nobody writes now');
    }
    const counter = firstOf(id);
    if (counter > before || now() > counter) raced++;
    writers.untilPaused();
    entries.push(id);
  }
  console.log({ torn, raced });
  assert.ok(raced > 0, 'some began while the writers wrote');
  for (const id of entries) firstOf(id);
  for (const id of [entries[50]!, entries[3]!, entries[99]!]) {
    const before = memories.map((_, i) => Buffer.from(history.read(id, 0, undefined, i)));
    assert.equal(history.restore(id).different, 0);
    for (const [i, memory] of memories.entries()) {
      assert.equal(Buffer.compare(before[i]!, new Uint8Array(wordsOf(memory).buffer)), 0);
    }
  }
}

/** Writers that never pause: an entry is of one instant or refused, and what was refused loses nothing. */
export async function entriesWithoutPauses(kind: string): Promise<void> {
  const memories = sharedMemories(kind);
  const slots = chains(memories);
  const now = (): number => Atomics.load(wordsOf(memories[0]!), 0);
  using history = new SnapshotHistory(memories);
  const empty = history.take();
  await using writers = new Writers(memories, slots, { burst: 0 });
  writers.go();
  while (now() === 0) await new Promise((resolve) => setImmediate(resolve));
  const started = now();
  let consistent = 0;
  let torn = 0;
  for (let round = 0; round < 60; round++) {
    const before = history.bytes;
    const id = takeOrTorn(history);
    if (id === undefined) {
      torn++;
      assert.equal(history.bytes, before, 'it kept nothing');
      continue;
    }
    consistent++;
    const entry = {
      read: (offset?: number, length?: number, memory?: number) => history.read(id, offset, length, memory),
    };
    for (const chain of slots) assertOneInstant(entry, chain);
  }
  console.log({ consistent, torn });
  assert.equal(history.size, 1 + consistent);
  assert.ok(now() > started, 'the writers wrote all the time');
  writers.stop();
  const last = history.take();
  for (const [i, memory] of memories.entries()) {
    const bytes = new Uint8Array(wordsOf(memory).buffer);
    assert.equal(Buffer.compare(history.read(last, 0, undefined, i), bytes), 0, 'what was refused is in it');
  }
  history.restore(empty);
  assert.ok(memories.every((memory) => wordsOf(memory).every((word) => word === 0)));
  history.restore(last);
  assert.equal(history.diff(last).isEmpty, true);
}

/** restore() against writers: what differs afterwards is told, by the statistics or by diff(). */
export async function historyRestoreAgainstWriters(kind: string): Promise<void> {
  const memories = sharedMemories(kind);
  const slots = chains(memories);
  using history = new SnapshotHistory(memories);
  const empty = history.take();
  await using writers = new Writers(memories, slots, { burst: 0, scatter: true });
  const watched = wordsOf(memories[0]!);
  let different = 0;
  for (let round = 0; round < 20; round++) {
    writers.again();
    for (let attempt = 0, met = 0; attempt < 5 && met < 3; attempt++) {
      for (let i = 0; i < 100 && Atomics.load(watched, 0) === 0; i++) Atomics.wait(watched, 0, 0, 1);
      const stats = history.restore(empty);
      different += stats.different;
      if (stats.different > 0) met++;
    }
    writers.stop();
    const nonZero = memories.reduce((sum, memory) => sum + wordsOf(memory).filter(Boolean).length, 0);
    assert.equal(history.diff(empty).isEmpty, nonZero === 0, `round ${round}`);
    assert.equal(history.restore(empty).different, 0, 'nobody writes now');
    assert.ok(
      memories.every((memory) => wordsOf(memory).every((word) => word === 0)),
      `round ${round}`,
    );
  }
  console.log({ different });
}
