import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import {
  DirtyTracker,
  Region,
  Snapshot,
  Userfaultfd,
  type SnapshotOptions,
  type Trackable,
} from '../lib/index.js';
import {
  growableBuffer,
  KINDS,
  offsetOf,
  PAGE,
  pageCountOf,
  pageRun,
  pagesOf,
  resizableBuffer,
  seeded,
  sorted,
  touch,
  WASM,
  WASM_PAGE,
} from './scenarios/dirty-support.js';
import { withHugePages } from './support/huge-pages.js';
import { passScenario } from './support/scenario.js';

const closed = { code: 'ERR_UFFD_CLOSED' };
const detached = { code: 'ERR_UFFD_DETACHED' };
const shrunk = { code: 'ERR_UFFD_SHRUNK' };
const limit = { code: 'ERR_UFFD_SNAPSHOT_LIMIT' };

/** Fills with bytes that tell pages and positions apart. */
function scribble(bytes: Uint8Array, seed: number): void {
  const words = new Uint32Array(bytes.byteLength >> 2);
  const random = seeded(seed);
  for (let i = 0; i < words.length; i += 7) words[i] = random(2 ** 32);
  bytes.set(new Uint8Array(words.buffer));
}

/** An independent copy: a Buffer, so that two compare fast. */
function copyOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes);
}

function assertSame(actual: Uint8Array, expected: Uint8Array, what = 'bytes'): void {
  assert.equal(actual.byteLength, expected.byteLength, what);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  assert.fail(`${what}: byte ${at} is ${actual[at]}, not ${expected[at]}`);
}

/** Ways of taking one; those that protect pages are for memory of our own and Wasm memory. */
const WAYS: { name: string; options: SnapshotOptions }[] = [
  { name: 'auto', options: {} },
  { name: 'copy', options: { mode: 'copy' } },
  { name: 'copy-on-write, loop', options: { mode: 'copy-on-write' } },
  { name: 'copy-on-write, in-thread', options: { mode: 'copy-on-write', resolver: 'in-thread' } },
];

function canBeProtected(memory: Trackable): boolean {
  return Region.isRegion(memory) || memory instanceof WebAssembly.Memory;
}

const WAYS_OF_KINDS = KINDS.flatMap((kind) => {
  const fits = canBeProtected(kind.make(WASM).memory);
  return WAYS.filter(({ options }) => fits || options.mode !== 'copy-on-write').map(({ name, options }) => ({
    kind,
    title: `${kind.name}, ${name}`,
    options,
    mode: fits && options.mode !== 'copy' ? 'copy-on-write' : 'copy',
  }));
});

for (const { kind, title, options, mode } of WAYS_OF_KINDS) {
  test(`it puts back every byte: ${title}`, async () => {
    const { memory, bytes } = kind.make(8 * WASM);
    const random = seeded(60);
    scribble(bytes, 60);
    const before = copyOf(bytes);
    using snapshot = Snapshot.take(memory, options);
    assert.equal(snapshot.mode, mode);
    assert.equal(snapshot.byteLength, bytes.byteLength);
    assert.deepEqual(snapshot.byteLengths, [bytes.byteLength]);
    assert.deepEqual(pagesOf(snapshot.diff(), bytes), []);
    for (let round = 0; round < 5; round++) {
      const written = new Set<number>([0, pageCountOf(bytes) - 1]);
      for (let i = 0; i < 30; i++) written.add(random(pageCountOf(bytes)));
      bytes[0]! ^= 255;
      bytes[bytes.byteLength - 1]! ^= 255;
      for (const page of written) bytes[offsetOf(page, bytes) + 5]! ^= 1 + random(255);
      assert.deepEqual(pagesOf(snapshot.diff(), bytes), sorted(written));
      assertSame(snapshot.read(), before, 'read()');
      const stats = snapshot.restore();
      assertSame(bytes, before, `round ${round}`);
      assert.deepEqual(pagesOf(snapshot.diff(), bytes), []);
      assert.equal(stats.different, 0);
      // Edge pages hold other data too in some kinds, and count when that was written.
      assert.equal(stats.pages, written.size);
      assert.ok(stats.bytes <= stats.pages * PAGE && stats.bytes > (stats.pages - 2) * PAGE);
      // The same before all is captured and after.
      if (round === 2) await snapshot.ready;
    }
  });

  test(`it reads any range as it was: ${title}`, () => {
    const { memory, bytes } = kind.make(2 * WASM);
    scribble(bytes, 61);
    const before = copyOf(bytes);
    using snapshot = Snapshot.take(memory, options);
    bytes.fill(0);
    const random = seeded(61);
    for (let round = 0; round < 50; round++) {
      const offset = random(bytes.byteLength);
      const length = 1 + random(bytes.byteLength - offset);
      assertSame(snapshot.read(offset, length), before.subarray(offset, offset + length));
    }
    assertSame(snapshot.read(PAGE + 1), before.subarray(PAGE + 1));
    const own = snapshot.read(0, 10);
    own.fill(99);
    assertSame(snapshot.read(0, 10), before.subarray(0, 10), 'what was read is the reader’s own');
  });
}

test('it does not change the neighbours of a view that share its pages (B9)', () => {
  const whole = Buffer.alloc(16 * PAGE);
  scribble(whole, 62);
  const [from, to] = [3 * PAGE + 123, 9 * PAGE + 77];
  const view = whole.subarray(from, to);
  const before = copyOf(view);
  using snapshot = Snapshot.take(view);
  scribble(whole, 63);
  const neighbours = copyOf(whole);
  snapshot.restore();
  assertSame(view, before, 'the view');
  assertSame(whole.subarray(0, from), neighbours.subarray(0, from), 'before the view');
  assertSame(whole.subarray(to), neighbours.subarray(to), 'behind the view');
  whole.fill(1, 0, from);
  whole.fill(1, to);
  assert.deepEqual(pagesOf(snapshot.diff(), view), [], 'what the neighbours write is no difference');
  snapshot.restore();
  assert.equal(whole[from - 1], 1);
  assert.equal(whole[to], 1);
});

test('it restores two small views in one page, each its own bytes', () => {
  const page = Region.allocate({ bytes: PAGE });
  const left = new Uint8Array(page.buffer, 10, 30);
  const right = new Uint8Array(page.buffer, 40, 30);
  left.fill(1);
  right.fill(1);
  using first = Snapshot.take(left);
  using second = Snapshot.take(right);
  left.fill(2);
  right.fill(2);
  first.restore();
  assert.deepEqual([left[0], left[29], right[0], right[29]], [1, 1, 2, 2]);
  second.restore();
  assert.deepEqual([left[0], left[29], right[0], right[29]], [1, 1, 1, 1]);
});

test('it holds several memories together', () => {
  const region = Region.allocate({ bytes: 8 * PAGE });
  const wasm = new WebAssembly.Memory({ initial: 1 });
  const view = Buffer.alloc(10 * PAGE).subarray(PAGE + 99, 6 * PAGE);
  const all = [region.bytes, new Uint8Array(wasm.buffer), view];
  for (const [i, bytes] of all.entries()) scribble(bytes, i);
  const before = all.map(copyOf);
  using snapshot = Snapshot.take([region, wasm, view]);
  assert.deepEqual(
    snapshot.byteLengths,
    all.map((bytes) => bytes.byteLength),
  );
  assert.equal(snapshot.byteLength, 8 * PAGE + WASM_PAGE + 5 * PAGE - 99);
  touch(all[0]!, 2, 255);
  all[1]!.fill(0, 5 * PAGE, 7 * PAGE);
  touch(view, 1, 255);
  const diff = snapshot.diff();
  assert.deepEqual(pagesOf(diff.of(0)), [2]);
  assert.deepEqual(pagesOf(diff.of(1)), [5, 6]);
  assert.deepEqual(pagesOf(diff.of(2), view), [1]);
  for (const i of all.keys()) assertSame(snapshot.read(0, undefined, i), before[i]!, `memory ${i}`);
  assert.throws(() => snapshot.read(0, 1, 3), { code: 'ERR_OUT_OF_RANGE' });
  assert.equal(snapshot.restore().pages, 4);
  for (const [i, bytes] of all.entries()) assertSame(bytes, before[i]!, `memory ${i}`);
});

test('it is ready at once in mode copy', async () => {
  const region = Region.allocate({ bytes: PAGE });
  using snapshot = Snapshot.take(region, { mode: 'copy' });
  const first = await Promise.race([
    snapshot.ready.then(() => 'ready'),
    Promise.resolve().then(() => 'later'),
  ]);
  assert.equal(first, 'ready');
});

test('it does not count a page as different that was written and written back', () => {
  const region = Region.allocate({ bytes: 8 * PAGE });
  region.bytes.fill(5);
  using snapshot = Snapshot.take(region);
  touch(region.bytes, 1, 6);
  touch(region.bytes, 2, 6);
  touch(region.bytes, 1, 5);
  touch(region.bytes, 3, 5);
  assert.deepEqual(pagesOf(snapshot.diff()), [2]);
  touch(region.bytes, 2, 5);
  assert.deepEqual(pagesOf(snapshot.diff()), []);
});

test('it finds a difference of one byte anywhere in a page', () => {
  const region = Region.allocate({ bytes: 4 * PAGE });
  scribble(region.bytes, 1);
  using snapshot = Snapshot.take(region);
  for (const offset of [0, 1, PAGE - 1, PAGE, 2 * PAGE + 2047, 4 * PAGE - 1]) {
    region.bytes[offset]! ^= 1;
    assert.deepEqual(pagesOf(snapshot.diff()), [Math.floor(offset / PAGE)]);
    region.bytes[offset]! ^= 1;
  }
  assert.deepEqual(pagesOf(snapshot.diff()), []);
});

test('it restores again and again, also what was written after a restore', () => {
  const region = Region.allocate({ bytes: 32 * PAGE });
  scribble(region.bytes, 2);
  const before = copyOf(region.bytes);
  using snapshot = Snapshot.take(region);
  const random = seeded(2);
  for (let round = 0; round < 100; round++) {
    const written = sorted(Array.from({ length: random(10) }, () => random(32)));
    for (const page of written) region.bytes[page * PAGE + random(PAGE)]! ^= 1 + random(255);
    assert.equal(snapshot.restore().pages, written.length, `round ${round}`);
    assertSame(region.bytes, before, `round ${round}`);
    assert.deepEqual(snapshot.restore(), { pages: 0, bytes: 0, different: 0 }, 'nothing was written since');
  }
});

test('it restores any of many snapshots of one memory in any order', () => {
  const region = Region.allocate({ bytes: 64 * PAGE });
  const random = seeded(4);
  const snapshots: { snapshot: Snapshot; bytes: Buffer }[] = [];
  for (let round = 0; round < 200; round++) {
    const choice = random(3);
    if (choice === 0 && snapshots.length < 20) {
      snapshots.push({ snapshot: Snapshot.take(region), bytes: copyOf(region.bytes) });
    } else if (choice === 1 && snapshots.length > 0) {
      const { snapshot, bytes } = snapshots[random(snapshots.length)]!;
      const differing = pageRun(0, 64).filter(
        (page) =>
          Buffer.compare(
            region.bytes.subarray(page * PAGE, (page + 1) * PAGE),
            bytes.subarray(page * PAGE, (page + 1) * PAGE),
          ) !== 0,
      );
      assert.deepEqual(pagesOf(snapshot.diff()), differing, `round ${round}`);
      snapshot.restore();
      assertSame(region.bytes, bytes, `round ${round}`);
      if (random(5) === 0) {
        snapshot.close();
        snapshots.splice(
          snapshots.findIndex((each) => each.snapshot === snapshot),
          1,
        );
      }
    } else {
      for (let i = random(12); i > 0; i--) region.bytes[random(64 * PAGE)] = random(256);
      if (random(10) === 0) region.discard(random(32) * PAGE, 16 * PAGE);
    }
  }
  for (const { snapshot, bytes } of snapshots) {
    snapshot.restore();
    assertSame(region.bytes, bytes);
    snapshot.close();
  }
  assert.ok(snapshots.length > 2, 'the seed gives several');
});

test('it restores pages that were given back to the kernel', () => {
  const region = Region.allocate({ bytes: 4096 * PAGE });
  scribble(region.bytes, 5);
  const before = copyOf(region.bytes);
  using snapshot = Snapshot.take(region);
  region.discard(PAGE, PAGE);
  region.discard(1024 * PAGE, 2048 * PAGE);
  assert.equal(snapshot.diff().pageCount, 2049);
  snapshot.restore();
  assertSame(region.bytes, before);
});

test('it tells a tracker which pages it put back', () => {
  const region = Region.allocate({ bytes: 16 * PAGE });
  region.bytes.fill(1);
  using snapshot = Snapshot.take(region);
  using tracker = new DirtyTracker(region);
  for (const page of [2, 3, 9]) touch(region.bytes, page, 2);
  assert.deepEqual(pagesOf(tracker.collect()), [2, 3, 9]);
  touch(region.bytes, 4, 2);
  assert.equal(snapshot.restore().pages, 4);
  assert.deepEqual(pagesOf(tracker.collect()), [2, 3, 4, 9]);
  assert.deepEqual(pagesOf(tracker.collect()), []);
  touch(region.bytes, 5, 2);
  assert.deepEqual(pagesOf(snapshot.diff()), [5]);
});

test('it restores Wasm memory that grew, and what came with growth reads as zero', () => {
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 10 });
  scribble(new Uint8Array(memory.buffer), 6);
  const before = copyOf(new Uint8Array(memory.buffer));
  using snapshot = Snapshot.take(memory);
  memory.grow(3);
  const bytes = new Uint8Array(memory.buffer);
  touch(bytes, 1, 0);
  bytes.fill(7, 2 * WASM_PAGE + 100, 4 * WASM_PAGE);
  assert.deepEqual(
    pagesOf(snapshot.diff()),
    sorted([...(before[PAGE] === 0 ? [] : [1]), ...pageRun(2 * WASM, 2 * WASM)]),
  );
  snapshot.restore();
  assert.equal(memory.buffer.byteLength, 5 * WASM_PAGE, 'it keeps its size');
  assertSame(bytes.subarray(0, 2 * WASM_PAGE), before, 'the old part');
  assert.ok(
    bytes.subarray(2 * WASM_PAGE).every((byte) => byte === 0),
    'the new part',
  );
  assert.equal(snapshot.diff().isEmpty, true);
  bytes[5 * WASM_PAGE - 1] = 1;
  assert.deepEqual(pagesOf(snapshot.diff()), [5 * WASM - 1]);
  memory.grow(1);
  new Uint8Array(memory.buffer).fill(1, 5 * WASM_PAGE);
  snapshot.restore();
  assert.ok(new Uint8Array(memory.buffer).subarray(2 * WASM_PAGE).every((byte) => byte === 0));
  assert.equal(snapshot.byteLength, 2 * WASM_PAGE, 'the size at its instant');
});

test('it takes a snapshot of Wasm memory without any page', () => {
  const memory = new WebAssembly.Memory({ initial: 0, maximum: 10 });
  using snapshot = Snapshot.take(memory);
  assert.equal(snapshot.byteLength, 0);
  assert.equal(snapshot.read().byteLength, 0);
  assert.throws(() => snapshot.read(0, 1), { code: 'ERR_OUT_OF_RANGE', message: /has no bytes/ });
  assert.equal(snapshot.diff().isEmpty, true);
  memory.grow(1);
  const bytes = new Uint8Array(memory.buffer);
  touch(bytes, 3, 1);
  assert.deepEqual(pagesOf(snapshot.diff()), [3]);
  snapshot.restore();
  assert.ok(bytes.every((byte) => byte === 0));
});

const growing: Record<
  string,
  (bytes: number) => { memory: ArrayBuffer | SharedArrayBuffer; grow: (bytes: number) => void }
> = {
  'a resizable ArrayBuffer': (bytes) => {
    const memory = resizableBuffer(bytes, 64 * PAGE);
    return { memory, grow: (to) => memory.resize(to) };
  },
  'a growable SharedArrayBuffer': (bytes) => {
    const memory = growableBuffer(bytes, 64 * PAGE);
    return { memory, grow: (to) => memory.grow(to) };
  },
};
for (const [name, make] of Object.entries(growing)) {
  test(`it restores ${name} that grew by bytes and by pages`, () => {
    const { memory, grow } = make(2 * PAGE + 100);
    const bytes = new Uint8Array(memory);
    scribble(bytes, 8);
    const before = copyOf(bytes);
    using snapshot = Snapshot.take(memory);
    grow(2 * PAGE + 300);
    bytes[2 * PAGE + 100] = 1;
    assert.deepEqual(pagesOf(snapshot.diff(), bytes), [2], 'the byte behind the old end');
    snapshot.restore();
    assert.equal(bytes[2 * PAGE + 100], 0);
    grow(5 * PAGE);
    bytes.fill(3);
    snapshot.restore();
    assertSame(bytes.subarray(0, 2 * PAGE + 100), before);
    assert.ok(bytes.subarray(2 * PAGE + 100).every((byte) => byte === 0));
    assert.equal(snapshot.diff().isEmpty, true);
  });
}

test('it throws ERR_UFFD_SHRUNK when a memory is smaller now, writes nothing, and works once it grew back', () => {
  const buffer = resizableBuffer(8 * PAGE, 16 * PAGE);
  const other = Region.allocate({ bytes: 4 * PAGE });
  scribble(new Uint8Array(buffer), 9);
  const before = copyOf(new Uint8Array(buffer));
  using snapshot = Snapshot.take([other, buffer]);
  other.bytes.fill(1);
  for (const bytes of [4 * PAGE, 8 * PAGE - 1, 0]) {
    buffer.resize(bytes);
    new Uint8Array(buffer).fill(2);
    assert.throws(() => snapshot.restore(), shrunk);
    assert.throws(() => snapshot.diff(), shrunk);
    assert.ok(
      other.bytes.every((byte) => byte === 1),
      'the first memory is as it was',
    );
    assert.ok(
      new Uint8Array(buffer).every((byte) => byte === 2),
      'the second too',
    );
  }
  assertSame(snapshot.read(0, undefined, 1), before, 'it still has its copy');
  buffer.resize(8 * PAGE);
  snapshot.restore();
  assertSame(new Uint8Array(buffer), before);
  assert.ok(other.bytes.every((byte) => byte === 0));
});

test('it restores a buffer that shrank and grew back between two looks', () => {
  const buffer = resizableBuffer(16 * PAGE, 16 * PAGE);
  const bytes = new Uint8Array(buffer);
  scribble(bytes, 10);
  const before = copyOf(bytes);
  using snapshot = Snapshot.take(buffer);
  buffer.resize(3 * PAGE + 5);
  buffer.resize(16 * PAGE);
  assert.equal(
    bytes.subarray(4 * PAGE).every((byte) => byte === 0),
    true,
  );
  snapshot.restore();
  assertSame(bytes, before);
});

test('it throws ERR_UFFD_DETACHED when a buffer was detached, writes nothing and keeps its copy (C7)', () => {
  const buffer = new ArrayBuffer(4 * PAGE);
  const other = Region.allocate({ bytes: 4 * PAGE });
  new Uint8Array(buffer).fill(3);
  const snapshot = Snapshot.take([other, buffer]);
  other.bytes.fill(1);
  const moved = new Uint8Array(structuredClone(buffer, { transfer: [buffer] }));
  assert.throws(() => snapshot.restore(), detached);
  assert.throws(() => snapshot.diff(), detached);
  assert.throws(() => Snapshot.take(buffer), detached);
  assert.ok(other.bytes.every((byte) => byte === 1));
  assert.ok(moved.every((byte) => byte === 3));
  assert.ok(snapshot.read(0, undefined, 1).every((byte) => byte === 3));
  snapshot.close();
});

test('it throws ERR_UFFD_CLOSED after close(), and closing twice is fine', () => {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const snapshot = Snapshot.take(region);
  assert.equal(snapshot.closed, false);
  snapshot.close();
  snapshot.close();
  snapshot[Symbol.dispose]();
  assert.equal(snapshot.closed, true);
  assert.throws(() => snapshot.restore(), closed);
  assert.throws(() => snapshot.diff(), closed);
  assert.throws(() => snapshot.read(), closed);
  assert.equal(inspect(snapshot), 'Snapshot { closed }');
  region.bytes.fill(9);
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
});

test('it is closed by the region that closes', () => {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const other = Region.allocate({ bytes: 4 * PAGE });
  const snapshot = Snapshot.take([region, other]);
  other.bytes.fill(1);
  region.close();
  assert.equal(snapshot.closed, true);
  assert.throws(() => snapshot.restore(), closed);
  assert.ok(other.bytes.every((byte) => byte === 1));
  assert.throws(() => Snapshot.take(region), closed);
  using uffd = Userfaultfd.open();
  uffd.register(other, 'write-protect');
});

test('it cannot be taken of memory a Userfaultfd has, and then nothing stays armed', () => {
  using uffd = Userfaultfd.open();
  const free = Region.allocate({ bytes: 4 * PAGE });
  const taken = Region.allocate({ bytes: 4 * PAGE });
  uffd.register(taken, 'write-protect');
  assert.throws(() => Snapshot.take([free, taken]), { code: 'ERR_UFFD_BUSY' });
  uffd.register(free, 'write-protect');
  assert.equal(uffd.armedPages(free), 0);
});

for (const mode of ['copy', 'auto'] as const) {
  test(`it keeps pages up to maxBytes, of which those of zeros are none: mode ${mode}`, () => {
    const region = Region.allocate({ bytes: 4096 * PAGE });
    for (const page of [0, 1, 7, 900, 4095]) touch(region.bytes, page, 1);
    const before = copyOf(region.bytes);
    // Where another watches it, auto copies.
    using tracker = new DirtyTracker(region);
    for (const maxBytes of [0, 1, 4 * PAGE, 5 * PAGE - 1]) {
      assert.throws(() => Snapshot.take(region, { mode, maxBytes }), limit);
      assertSame(region.bytes, before);
    }
    assert.equal(tracker.collect().isEmpty, true, 'nothing was written');
    using snapshot = Snapshot.take(region, { mode, maxBytes: 5 * PAGE });
    assert.equal(snapshot.mode, 'copy');
    region.bytes.fill(9);
    snapshot.restore();
    assertSame(region.bytes, before);
    region.discard();
    assert.equal(Snapshot.take(region, { mode, maxBytes: 0 }).byteLength, region.byteLength);
    // Of a view its own bytes count, and those of its neighbours do not.
    const view = new Uint8Array(3 * PAGE).fill(1).subarray(100, 2 * PAGE + 200);
    assert.throws(() => Snapshot.take(view, { mode, maxBytes: view.length - 1 }), limit);
    assertSame(Buffer.from(Snapshot.take(view, { mode, maxBytes: view.length }).read()), copyOf(view));
  });
}

test('it names the modes and the options it knows when given another', () => {
  const region = Region.allocate({ bytes: PAGE });
  const take = (options: object): Snapshot => Snapshot.take(region, options);
  assert.throws(() => take({ mode: 'magic' }), {
    name: 'TypeError',
    code: 'ERR_INVALID_ARG_VALUE',
    message: /auto, copy-on-write, copy/,
  });
  assert.throws(() => take({ mode: 1 }), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  assert.throws(() => take({ modes: 'copy' }), { name: 'TypeError', message: /modes.*known: mode/ });
  assert.throws(() => Snapshot.take([]), { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
  assert.throws(() => Snapshot.take({} as Trackable), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  assert.equal(uffd.armedPages(region), 0, 'none of them left anything armed');
});

test('it refuses to read what is not in it', () => {
  const region = Region.allocate({ bytes: 2 * PAGE });
  using snapshot = Snapshot.take(region);
  for (const [offset, length] of [
    [-1, 1],
    [0.5, 1],
    [NaN, 1],
    [0, 0],
    [0, -1],
    [0, 2 * PAGE + 1],
    [2 * PAGE, 1],
    [PAGE, PAGE + 1],
    [2 ** 53, 1],
    [0, 2 ** 53],
  ] as const) {
    assert.throws(
      () => snapshot.read(offset, length),
      { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' },
      `${offset}, ${length}`,
    );
  }
});

test('it costs what was written, not the size of the memory', async () => {
  await passScenario('snapshot', 'costOfTenPages', { timeoutMs: 60_000 });
});

test('it does not make memory resident that was never touched, nor a copy of it', async () => {
  await passScenario('snapshot', 'sparse', { timeoutMs: 60_000 });
});

test('it makes no hole of shared memory resident that it copies', async () => {
  await passScenario('snapshot', 'sparseShared', { timeoutMs: 60_000 });
});

for (const kind of ['anonymous', 'memfd', 'Wasm memory']) {
  test(`it makes up no zeros where a userfaultfd fills holes: ${kind}`, async () => {
    await passScenario('snapshot', 'filledElsewhere', { args: [kind] });
  });
}

for (const mapping of ['private', 'shared']) {
  test(`it takes any view of hugetlb memory: ${mapping}`, async () => {
    await withHugePages(4, () => passScenario('snapshot', 'hugeViews', { args: [mapping] }));
  });
}

test('it takes snapshots of many buffers in one page of the heap, and of one buffer twice (B9)', async () => {
  await passScenario('snapshot', 'manyInOnePage', { timeoutMs: 60_000 });
});

test('it puts back only what differs, and makes no discarded page resident that was never touched', async () => {
  await passScenario('snapshot', 'discardedUntouched', { timeoutMs: 30_000 });
});

for (const what of ['snapshot', 'history']) {
  test(`a ${what} throws when there is no memory for what is read`, async () => {
    await passScenario('snapshot', 'readWithoutMemory', { args: [what] });
  });
}

test('it frees its copy when it closes and when the garbage collector takes it', async () => {
  await passScenario('snapshot', 'freed', { timeoutMs: 30_000, nodeArgs: ['--expose-gc'] });
});
