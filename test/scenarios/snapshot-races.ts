// Snapshots of memory that Workers write at the same time.

import assert from 'node:assert/strict';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { binding } from '../../lib/binding.js';
import { Region, Snapshot, UffdError, type SnapshotResolver } from '../../lib/index.js';
import { startWriter } from './barrier-writer.js';
import { PAGE, pagesOf, seeded, touch } from './dirty-support.js';
import { CONTROL, STOP, wordsOf, type SharedMemory, type WriterData } from './snapshot-worker.js';

const WORDS = PAGE / 4;

type Slots = WriterData['slots'];

/** Writers that go when they are told to, and are told to stop before they are waited for. */
export class Writers implements AsyncDisposable {
  readonly #control: Int32Array;
  readonly #workers: Worker[];
  #go = 0;

  constructor(memories: SharedMemory[], slots: Slots[], options: { burst: number; scatter?: boolean }) {
    const control = new SharedArrayBuffer(64);
    this.#control = new Int32Array(control);
    this.#workers = slots.map((own, id) => {
      const workerData: WriterData = { id, control, memories, slots: own, scatter: false, ...options };
      return new Worker(path.join(__dirname, 'snapshot-worker.js'), { workerData });
    });
  }

  go(): void {
    Atomics.store(this.#control, CONTROL.go, ++this.#go);
    Atomics.notify(this.#control, CONTROL.go);
  }

  /** Returns when every writer has done what it was told, or was stopped in it. */
  untilPaused(): void {
    for (const id of this.#workers.keys()) {
      for (;;) {
        const done = Atomics.load(this.#control, CONTROL.done + id);
        if (done === this.#go) break;
        Atomics.wait(this.#control, CONTROL.done + id, done);
      }
    }
  }

  /** Ends the writing that has no end of its own. */
  stop(): void {
    Atomics.store(this.#control, CONTROL.stop, STOP.burst);
    this.untilPaused();
  }

  /** After stop(): once more. */
  again(): void {
    Atomics.store(this.#control, CONTROL.stop, STOP.no);
    this.go();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exits = this.#workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
    Atomics.store(this.#control, CONTROL.stop, STOP.thread);
    // Changes what they wait for: one that has looked at `stop` and does not wait yet would miss a mere wake.
    this.go();
    assert.deepEqual(
      await Promise.all(exits),
      exits.map(() => 0),
    );
  }
}

export function sharedMemories(kind: string): SharedMemory[] {
  const wasm = (): SharedMemory => new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
  if (kind === 'wasm') return [wasm()];
  if (kind === 'buffer') return [new SharedArrayBuffer(2 ** 20)];
  if (kind === 'large buffer') return [new SharedArrayBuffer(2 ** 27)];
  return [wasm(), new SharedArrayBuffer(2 ** 20)];
}

/** First and last page of each memory and some between, each writer its own words. */
export function chains(memories: SharedMemory[]): Slots[] {
  return [0, 1].map((id) =>
    memories.flatMap((memory, index) => {
      const words = wordsOf(memory).length;
      return [0, 3, 100, 101, 200]
        .map((page) => [index, page * WORDS + id] as const)
        .concat([[index, words - 1 - id]]);
    }),
  );
}

/** At one instant the counters along a chain never rise, and fall by one at most. */
export function assertOneInstant(snapshot: Pick<Snapshot, 'read'>, slots: Slots): number {
  const counters = slots.map(([memory, word]) => {
    const bytes = snapshot.read(word * 4, 4, memory);
    return new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
  });
  const [first] = counters;
  const text = counters.join(' ');
  assert.ok(
    counters.every((counter, i) => i === 0 || counter <= counters[i - 1]!),
    `torn: ${text}`,
  );
  assert.ok(counters.at(-1)! >= first! - 1, `torn: ${text}`);
  return first!;
}

function takeOrTorn(memories: SharedMemory[]): Snapshot | undefined {
  try {
    return Snapshot.take(memories, { mode: 'copy' });
  } catch (error) {
    assert.ok(error instanceof UffdError && error.code === 'ERR_UFFD_SNAPSHOT_TORN', String(error));
    assert.match(error.hint!, /pause/);
    return undefined;
  }
}

/** 100 snapshots that begin while the writers write, who pause some time later. */
export async function withPauses(kind: string): Promise<void> {
  const memories = sharedMemories(kind);
  const slots = chains(memories);
  await using writers = new Writers(memories, slots, { burst: 3000 });
  const now = (): number => Atomics.load(wordsOf(memories[0]!), 0);
  let torn = 0;
  let raced = 0;
  writers.go();
  writers.untilPaused();
  for (let taken = 0; taken < 100; taken++) {
    const before = now();
    writers.go();
    let snapshot = takeOrTorn(memories);
    if (snapshot === undefined) {
      torn++;
      writers.untilPaused();
      snapshot = takeOrTorn(memories);
      assert.ok(snapshot !== undefined, 'nobody writes now');
    }
    const [counter] = slots.map((chain) => assertOneInstant(snapshot, chain));
    if (counter! > before || now() > counter!) raced++;
    writers.untilPaused();
    snapshot.close();
  }
  console.log({ torn, raced });
  assert.ok(raced > 0, 'some began while the writers wrote');
}

/** Writers that never pause: consistent or refused, and nothing else. */
export async function withoutPauses(kind: string): Promise<void> {
  const memories = sharedMemories(kind);
  const slots = chains(memories);
  await using writers = new Writers(memories, slots, { burst: 0 });
  const now = (): number => Atomics.load(wordsOf(memories[0]!), 0);
  writers.go();
  while (now() === 0) await new Promise((resolve) => setImmediate(resolve));
  const started = now();
  let consistent = 0;
  let torn = 0;
  for (let round = 0; round < 100; round++) {
    using snapshot = takeOrTorn(memories);
    if (snapshot === undefined) {
      torn++;
      continue;
    }
    consistent++;
    for (const chain of slots) assertOneInstant(snapshot, chain);
  }
  console.log({ consistent, torn });
  assert.equal(consistent + torn, 100);
  assert.ok(now() > started, 'the writers wrote all the time');
  writers.stop();
  // What was refused left nothing behind: now it goes, and is exact.
  using quiet = Snapshot.take(memories, { mode: 'copy' });
  for (const [i, memory] of memories.entries()) {
    assert.equal(Buffer.compare(quiet.read(0, undefined, i), new Uint8Array(wordsOf(memory).buffer)), 0);
  }
}

/**
 * Writers that never pause, over two memories of UFFD_COW_MIB each: every snapshot is of one instant. Every
 * fifth begins while they stand still and is written to afterwards: it equals a copy made before.
 */
export async function copyOnWrite(resolver: string): Promise<void> {
  const mib = Number(process.env['UFFD_TEST_SNAPSHOT_MIB'] ?? 2);
  const rounds = 100;
  const memories = [0, 1].map(
    () => new WebAssembly.Memory({ initial: mib * 16, maximum: mib * 16, shared: true }),
  );
  for (const memory of memories) wordsOf(memory).fill(-1);
  const pages = (mib * 2 ** 20) / PAGE;
  const slots = [0, 1].map((id) =>
    memories.flatMap((_memory, index) =>
      Array.from({ length: 128 }, (_, i) => [index, Math.floor((i * pages) / 128) * WORDS + id] as const),
    ),
  );
  for (const [memory, word] of slots.flat()) wordsOf(memories[memory]!)[word] = 0;
  await using writers = new Writers(memories, slots, { burst: 0 });
  const now = (): number => Atomics.load(wordsOf(memories[0]!), 0);
  writers.go();
  while (now() === 0) await new Promise((resolve) => setImmediate(resolve));
  const started = now();
  const total = { rounds, faulted: 0, waits: 0, longestWaitMs: 0, longestTakeMs: 0 };
  const begun = performance.now();
  for (let round = 0; round < rounds; round++) {
    const quiesced = round % 5 === 4;
    if (quiesced) writers.stop();
    const copies = quiesced ? memories.map((memory) => Buffer.from(wordsOf(memory).slice().buffer)) : [];
    const asked = performance.now();
    using snapshot = Snapshot.take(memories, {
      mode: 'copy-on-write',
      resolver: resolver as SnapshotResolver,
    });
    total.longestTakeMs = Math.max(total.longestTakeMs, performance.now() - asked);
    if (quiesced) writers.again();
    await snapshot.ready;
    for (const chain of slots) assertOneInstant(snapshot, chain);
    for (const [i, copy] of copies.entries()) {
      assert.equal(Buffer.compare(snapshot.read(0, undefined, i), copy), 0, `memory ${i}, round ${round}`);
    }
    const { faulted, waits, longestWaitMs } = snapshot.progress;
    total.faulted += faulted;
    total.waits += waits;
    total.longestWaitMs = Math.max(total.longestWaitMs, longestWaitMs);
  }
  console.log(JSON.stringify({ resolver, mib, ...total, seconds: (performance.now() - begun) / 1000 }));
  assert.ok(now() > started, 'the writers wrote all the time');
  assert.ok(total.faulted > 0, 'some pages were captured by their writers');
  writers.stop();
}

/** restore() against writers: what differs afterwards is told, by the statistics or by diff(), never hidden. */
export async function restoreAgainstWriters(kind: string): Promise<void> {
  const memories = sharedMemories(kind);
  const random = seeded(61);
  const scattered = [0, 1].map((id) =>
    Array.from({ length: 40 }, () => {
      const memory = random(memories.length);
      return [memory, (1 + random(254)) * WORDS + 2 * random(WORDS / 2) + id] as const;
    }),
  );
  using snapshot = Snapshot.take(memories);
  await using writers = new Writers(memories, scattered, { burst: 0, scatter: true });
  const first = scattered[0]![0]!;
  const watched = wordsOf(memories[first[0]]!);
  for (let round = 0; round < 50; round++) {
    writers.again();
    // Most of these meet a running writer; writtenDuringRestore holds one fast.
    for (let i = 0; i < 3; i++) {
      while (Atomics.load(watched, first[1]) === 0) Atomics.wait(watched, first[1], 0, 1);
      snapshot.restore();
    }
    writers.stop();
    const diff = snapshot.diff();
    for (const [i, memory] of memories.entries()) {
      const bytes = new Uint8Array(wordsOf(memory).buffer);
      assert.deepEqual(
        pagesOf(diff.of(i), bytes),
        differingPages(snapshot.read(0, undefined, i), memory),
        `round ${round}`,
      );
    }
    const last = snapshot.restore();
    assert.equal(last.different, 0, 'nobody writes now');
    assert.ok(last.pages >= diff.pageCount);
    for (const [i, memory] of memories.entries()) {
      assert.deepEqual(differingPages(snapshot.read(0, undefined, i), memory), []);
    }
    assert.equal(snapshot.diff().isEmpty, true);
  }
}

/** Somebody writes a page after it was put back and before it is armed again. */
export async function writtenDuringRestore(): Promise<void> {
  const region = Region.allocate({ bytes: 64 * PAGE, shared: true });
  const { bytes } = region;
  using snapshot = Snapshot.take(region, { mode: 'copy' });
  touch(bytes, 20, 7);
  touch(bytes, 21, 7);
  const memory = region.buffer as SharedArrayBuffer;
  const writer = await startWriter({ memory, offsets: [20 * PAGE], barriers: ['put back'] });
  assert.deepEqual(snapshot.restore(), { pages: 2, bytes: 2 * PAGE, different: 1 });
  await writer.ended;
  assert.deepEqual([bytes[20 * PAGE], bytes[21 * PAGE]], [1, 0]);
  assert.deepEqual(pagesOf(snapshot.diff()), [20]);
  assert.deepEqual(snapshot.restore(), { pages: 1, bytes: PAGE, different: 0 });
  assert.ok(bytes.every((byte) => byte === 0));
}

/** By comparing all bytes, and by nothing that this package says. */
function differingPages(expected: Uint8Array, memory: SharedMemory): number[] {
  const actual = wordsOf(memory);
  const words = new Int32Array(expected.buffer, expected.byteOffset, expected.byteLength / 4);
  const lead = binding().addressInPage(new Uint8Array(actual.buffer));
  const pages = new Set<number>();
  for (let i = 0; i < words.length; i++)
    if (words[i] !== actual[i]) pages.add(Math.floor((lead + i * 4) / PAGE));
  return [...pages];
}
