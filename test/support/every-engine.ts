// What every engine of DirtyTracker must do, as tests.

import assert from 'node:assert/strict';
import { constants } from 'node:buffer';
import { fork, spawn, spawnSync } from 'node:child_process';
import { randomFill, randomFillSync } from 'node:crypto';
import { closeSync, openSync, read, readSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';
import {
  capabilities,
  DirtyTracker,
  Region,
  Snapshot,
  Userfaultfd,
  type DirtyEngine,
  type Trackable,
} from '../../lib/index.js';
import {
  growableBuffer,
  KINDS,
  lastByteOf,
  offsetOf,
  ownPages,
  PAGE,
  pageCountOf,
  pageRun,
  pagesOf,
  PageWriter,
  resizableBuffer,
  seeded,
  sorted,
  touch,
  WASM,
  WASM_PAGE,
  wasmStore,
} from '../scenarios/dirty-support.js';
import { passScenario } from './scenario.js';
import { testing } from './testing.js';

const closed = { code: 'ERR_UFFD_CLOSED' };
const MIB = 1024 * 1024;

/** A memory of WebAssembly and its bytes as they are now. */
function wasm(
  initial: number,
  maximum = 100,
  shared = false,
): { memory: WebAssembly.Memory; bytes: () => Uint8Array } {
  const memory = new WebAssembly.Memory({ initial, maximum, shared });
  return { memory, bytes: () => new Uint8Array(memory.buffer) };
}

/** The one test body over all engines. */
export function everythingHolds(engine: DirtyEngine): void {
  const takesAnyBuffer = engine !== 'wp-sync';
  /** Of V8's own buffers, which share pages with other data. */
  const testAnyBuffer: (title: string, body: () => void | Promise<void>) => void = takesAnyBuffer
    ? (title, body) => void test(title, body)
    : () => undefined;
  const kinds = KINDS.filter(({ exact }) => exact || takesAnyBuffer);
  const track = (memory: Trackable | readonly Trackable[]): DirtyTracker =>
    new DirtyTracker(memory, { engine });
  for (const kind of kinds) {
    test(`it reports a page that was never touched before the first write: ${kind.name} (B15)`, () => {
      const { memory, bytes } = kind.make(16 * WASM);
      using tracker = track(memory);
      assert.deepEqual(ownPages(kind, pagesOf(tracker.collect(), bytes), bytes), []);
      touch(bytes, 77, 1);
      assert.deepEqual(ownPages(kind, pagesOf(tracker.collect(), bytes), bytes), [77]);
    });

    test(`it reports exactly the pages written: ${kind.name}`, () => {
      const { memory, bytes } = kind.make(16 * WASM);
      const count = pageCountOf(bytes);
      const random = seeded(50);
      // Half of the pages exist before the tracker does, half do not.
      for (let page = 0; page < count; page += 2) touch(bytes, page, 1);
      using tracker = track(memory);
      for (let round = 0; round < 50; round++) {
        const written = new Set<number>();
        for (let i = random(40); i >= 0; i--) {
          const page = random(count);
          // Never back to what it was: `compare` would be right not to see that.
          bytes[Math.min(offsetOf(page, bytes) + random(PAGE), lastByteOf(page, bytes))]! += 1 + random(5);
          written.add(page);
        }
        const dirty = tracker.collect();
        for (const page of written)
          assert.ok(dirty.has(offsetOf(page, bytes)), `round ${round}: page ${page}`);
        const own = ownPages(kind, sorted(written), bytes);
        assert.deepEqual(ownPages(kind, pagesOf(dirty, bytes), bytes), own, `round ${round}`);
      }
    });

    test(`it reports a write to the very first and the very last byte: ${kind.name} (B9)`, () => {
      const { memory, bytes } = kind.make(4 * WASM);
      const last = pageCountOf(bytes) - 1;
      using tracker = track(memory);
      assert.equal(tracker.exact, kind.exact && engine !== 'compare');
      assert.equal(tracker.engine, engine);
      tracker.collect();
      bytes[0] = 1;
      const first = tracker.collect();
      assert.ok(first.has(0));
      bytes[bytes.byteLength - 1] = 1;
      const end = tracker.collect();
      assert.ok(end.has(bytes.byteLength - 1));
      const edges = kind.exact
        ? [[0], [last]]
        : [
            [0, last],
            [0, last],
          ];
      assert.ok(
        pagesOf(first, bytes).every((page) => edges[0]!.includes(page)),
        'first byte',
      );
      assert.ok(
        pagesOf(end, bytes).every((page) => edges[1]!.includes(page)),
        'last byte',
      );
      // What is reported is never outside the memory.
      for (const { offset, length } of [...first, ...end]) {
        assert.ok(offset >= 0 && offset + length <= bytes.byteLength);
      }
    });

    test(`it does not count reading as writing: ${kind.name}`, () => {
      const { memory, bytes } = kind.make(4 * WASM);
      const count = pageCountOf(bytes);
      for (let page = 0; page < count; page += 3) touch(bytes, page, 5);
      using tracker = track(memory);
      let sum = 0;
      for (let page = 0; page < count; page++) sum += bytes[offsetOf(page, bytes)]!;
      assert.equal(sum, 5 * Math.ceil(count / 3));
      assert.deepEqual(ownPages(kind, pagesOf(tracker.collect(), bytes), bytes), []);
    });
  }

  testAnyBuffer('it never reports an inner page for a write to the neighbours of a view (B9)', () => {
    const whole = Buffer.alloc(20 * PAGE);
    const view = whole.subarray(3 * PAGE + 100, 9 * PAGE + 200);
    using tracker = track(view);
    assert.equal(tracker.exact, false);
    const last = pageCountOf(view) - 1;
    for (let i = 0; i < 3 * PAGE + 100; i += 16) whole[i] = 1;
    for (let i = 9 * PAGE + 200; i < whole.length; i += 16) whole[i] = 1;
    whole[3 * PAGE + 99] = 1;
    whole[9 * PAGE + 200] = 1;
    const dirty = tracker.collect();
    assert.deepEqual(
      pagesOf(dirty, view).filter((page) => page !== 0 && page !== last),
      [],
    );
    assert.ok(dirty.pageCount <= 2);
  });

  test('it is exact for a memory that is not alone in its first page only when all of it is page-aligned', () => {
    const region = Region.allocate({ bytes: 8 * PAGE });
    const exact = (memory: Trackable | Trackable[]): boolean => {
      using tracker = track(memory);
      return tracker.exact;
    };
    assert.equal(exact(region), engine !== 'compare');
    assert.equal(exact(new Uint8Array(region.buffer, PAGE, 2 * PAGE)), engine !== 'compare');
    assert.equal(exact(new Uint8Array(region.buffer, PAGE, PAGE + 1)), false);
    assert.equal(exact(new Uint8Array(region.buffer, 1, PAGE - 1)), false);
    if (takesAnyBuffer) assert.equal(exact([region, new ArrayBuffer(PAGE + 8)]), false);
  });

  test('it reports a write of the value that was there before, unless it compares', () => {
    const region = Region.allocate({ bytes: 8 * PAGE });
    region.bytes.fill(7);
    using tracker = track(region);
    region.bytes[3 * PAGE] = 7;
    // To `compare` nothing happened; so it is not `exact`.
    assert.deepEqual(pagesOf(tracker.collect()), engine === 'compare' ? [] : [3]);
  });

  test('it re-arms with collect() and not with peek()', () => {
    const region = Region.allocate({ bytes: 64 * PAGE });
    using tracker = track(region);
    for (const page of [1, 2, 40]) touch(region.bytes, page, 1);
    assert.deepEqual(pagesOf(tracker.peek()), [1, 2, 40]);
    touch(region.bytes, 41, 1);
    assert.deepEqual(pagesOf(tracker.peek()), [1, 2, 40, 41]);
    assert.deepEqual(pagesOf(tracker.collect()), [1, 2, 40, 41]);
    assert.deepEqual(pagesOf(tracker.peek()), []);
    assert.deepEqual(pagesOf(tracker.collect()), []);
    touch(region.bytes, 2, 2);
    assert.deepEqual(pagesOf(tracker.collect()), [2]);
  });

  for (const shared of [false, true]) {
    test(`it sees what Wasm code stores into ${shared ? 'shared' : 'plain'} memory`, () => {
      const { memory, bytes } = wasm(4, 8, shared);
      const store = wasmStore(memory);
      using tracker = track(memory);
      store(5 * PAGE, 0x01020304);
      store(9 * PAGE + PAGE - 2, -1);
      assert.deepEqual(pagesOf(tracker.collect()), [5, 9, 10], 'the second store crosses a page boundary');
      assert.equal(bytes()[5 * PAGE], 4);
      memory.grow(1);
      tracker.collect();
      store(4 * WASM_PAGE, 1);
      assert.deepEqual(pagesOf(tracker.collect()), [4 * WASM]);
    });
  }

  const shareable: Record<string, () => WebAssembly.Memory | SharedArrayBuffer> = {
    'shared Wasm memory': () => wasm(8, 8, true).memory,
    ...(takesAnyBuffer ? { 'a SharedArrayBuffer': () => new SharedArrayBuffer(8 * WASM_PAGE) } : {}),
    'a shared region': () =>
      Region.allocate({ bytes: 8 * WASM_PAGE, shared: true }).buffer as SharedArrayBuffer,
  };
  for (const [name, make] of Object.entries(shareable)) {
    test(`it sees what Workers write into ${name}`, async () => {
      const memory = make();
      const bytes = new Uint8Array(memory instanceof WebAssembly.Memory ? memory.buffer : memory);
      await using first = new PageWriter(memory);
      await using second = new PageWriter(memory);
      using tracker = track(memory);
      const random = seeded(7);
      for (let round = 0; round < 100; round++) {
        const written: number[] = [];
        for (const writer of [first, second]) {
          const pages = Array.from({ length: random(20) }, () => 1 + random(8 * WASM - 2));
          writer.write(pages, round + 1);
          written.push(...pages);
        }
        const inner = pagesOf(tracker.collect(), bytes).filter((page) => page > 0 && page < 8 * WASM);
        assert.deepEqual(inner, sorted(written), `round ${round}`);
      }
    });
  }

  test('it sees what the kernel and pool threads write: fs.readSync, fs.read, crypto.randomFill', async () => {
    const region = Region.allocate({ bytes: 64 * PAGE });
    const { bytes } = region;
    using tracker = track(region);
    const file = openSync(process.execPath, 'r');
    try {
      assert.equal(readSync(file, bytes, 3 * PAGE + 10, 2 * PAGE, 0), 2 * PAGE);
      assert.deepEqual(pagesOf(tracker.collect()), [3, 4, 5]);
      const done = await promisify(read)(file, bytes, 20 * PAGE, 3 * PAGE, 0);
      assert.equal(done.bytesRead, 3 * PAGE);
      assert.deepEqual(pagesOf(tracker.collect()), [20, 21, 22]);
      // Again, now that the pages exist.
      readSync(file, bytes, 4 * PAGE, 1, 0);
      assert.deepEqual(pagesOf(tracker.collect()), [4]);
    } finally {
      closeSync(file);
    }
    randomFillSync(bytes, 30 * PAGE, 2 * PAGE);
    assert.deepEqual(pagesOf(tracker.collect()), [30, 31]);
    await new Promise<void>((resolve, reject) => {
      randomFill(bytes, 40 * PAGE, 5 * PAGE, (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
    assert.deepEqual(pagesOf(tracker.collect()), [40, 41, 42, 43, 44]);
  });

  test('it tracks several memories at once and tells them apart', () => {
    const region = Region.allocate({ bytes: 8 * PAGE });
    const { memory, bytes } = wasm(1);
    const buffer = takesAnyBuffer ? Buffer.alloc(20 * PAGE) : Region.allocate({ bytes: 20 * PAGE }).bytes;
    const view = buffer.subarray(PAGE + 5, 10 * PAGE);
    using tracker = track([region, memory, view]);
    touch(region.bytes, 2, 1);
    touch(bytes(), 9, 1);
    touch(view, 4, 1);
    const dirty = tracker.collect();
    assert.equal(dirty.memoryCount, 3);
    assert.deepEqual(pagesOf(dirty.of(0)), [2]);
    assert.deepEqual(pagesOf(dirty.of(1)), [9]);
    assert.deepEqual(pagesOf(dirty.of(2), view), [4]);
    assert.equal(tracker.collect().isEmpty, true);
  });

  test('it reports each write once to each of two trackers that overlap (B19)', () => {
    const region = Region.allocate({ bytes: 32 * PAGE });
    const { bytes } = region;
    using whole = track(region);
    touch(bytes, 12, 1);
    using part = track(new Uint8Array(region.buffer, 8 * PAGE, 16 * PAGE));
    assert.deepEqual(pagesOf(part.collect()), [], 'what was written before it began is not its business');
    touch(bytes, 3, 1);
    touch(bytes, 10, 1);
    assert.deepEqual(pagesOf(part.peek()), [2]);
    assert.deepEqual(pagesOf(part.collect()), [2], 'counted from where its memory starts');
    assert.deepEqual(pagesOf(part.collect()), []);
    assert.deepEqual(pagesOf(whole.peek()), [3, 10, 12], 'what the other took is still there');
    touch(bytes, 11, 1);
    assert.deepEqual(pagesOf(whole.collect()), [3, 10, 11, 12]);
    assert.deepEqual(pagesOf(whole.collect()), []);
    assert.deepEqual(pagesOf(part.collect()), [3]);
    assert.deepEqual(pagesOf(part.collect()), []);
  });

  test('it reports each write once to each of many trackers of one memory, in whatever order they look (B19)', () => {
    const PAGES = 200;
    const region = Region.allocate({ bytes: PAGES * PAGE });
    const random = seeded(19);
    const trackers = Array.from({ length: 6 }, (_, i) => {
      const from = i * 20;
      const pages = PAGES - i * 35;
      const tracker = track(new Uint8Array(region.buffer, from * PAGE, Math.min(pages, PAGES - from) * PAGE));
      return { tracker, from, to: from + Math.min(pages, PAGES - from), open: new Set<number>() };
    });
    for (let round = 0; round < 400; round++) {
      for (let i = random(10); i > 0; i--) {
        const page = random(PAGES);
        touch(region.bytes, page, round);
        for (const each of trackers) if (page >= each.from && page < each.to) each.open.add(page - each.from);
      }
      const looker = trackers[random(trackers.length)]!;
      const peeks = random(3) === 0;
      const seen = pagesOf(peeks ? looker.tracker.peek() : looker.tracker.collect());
      assert.deepEqual(seen, sorted(looker.open), `round ${round}`);
      if (!peeks) looker.open.clear();
    }
    for (const { tracker } of trackers) tracker.close();
  });

  test('it reports every write to two small Buffers in one page, to the tracker of each (B19)', () => {
    const page = Region.allocate({ bytes: PAGE });
    const left = new Uint8Array(page.buffer, 64, 64);
    const right = new Uint8Array(page.buffer, 2048, 64);
    using first = track(left);
    using second = track(right);
    assert.equal(first.exact, false);
    for (let round = 0; round < 20; round++) {
      left[5] = round + 1;
      right[7] = round + 1;
      const [a, b] = round % 2 === 0 ? [first, second] : [second, first];
      for (const tracker of [a, b]) {
        const dirty = tracker.collect();
        assert.deepEqual([...dirty], [{ offset: 0, length: 64 }]);
        assert.equal(dirty.pageCount, 1);
        assert.equal(tracker.collect().isEmpty, true);
      }
    }
  });

  test('it goes on seeing every write when one of two trackers of a memory closes', () => {
    const region = Region.allocate({ bytes: 16 * PAGE });
    const first = track(region);
    using second = track(new Uint8Array(region.buffer, 0, 8 * PAGE));
    touch(region.bytes, 3, 1);
    touch(region.bytes, 12, 1);
    assert.deepEqual(pagesOf(first.collect()), [3, 12]);
    first.close();
    touch(region.bytes, 5, 1);
    assert.deepEqual(pagesOf(second.collect()), [3, 5]);
    touch(region.bytes, 5, 2);
    assert.deepEqual(pagesOf(second.collect()), [5]);
  });

  test('it has what trackers took that are closed since, however many they were (B19)', () => {
    const region = Region.allocate({ bytes: 64 * PAGE });
    for (const others of [1, 16, 40]) {
      using last = track(region);
      const closed = Array.from({ length: others }, () => track(region));
      for (const [i, tracker] of closed.entries()) {
        touch(region.bytes, i, others);
        assert.ok(pagesOf(tracker.collect()).includes(i));
        if (i % 2 === 0) tracker.close();
      }
      for (const tracker of closed) tracker.close();
      assert.deepEqual(pagesOf(last.collect()), pageRun(0, others));
      assert.deepEqual(pagesOf(last.collect()), []);
    }
  });

  testAnyBuffer('it loses nothing, nor does a Snapshot of the same memory, whoever looks first (B19)', () => {
    const region = Region.allocate({ bytes: 32 * PAGE });
    region.bytes.fill(1);
    using tracker = track(region);
    touch(region.bytes, 1, 2);
    using snapshot = Snapshot.take(region);
    assert.deepEqual(pagesOf(tracker.collect()), [1], 'taking the snapshot consumed nothing');
    touch(region.bytes, 4, 2);
    assert.deepEqual(pagesOf(tracker.collect()), [4]);
    assert.deepEqual(pagesOf(snapshot.diff()), [4], 'collecting consumed nothing');
    touch(region.bytes, 6, 2);
    assert.deepEqual(pagesOf(snapshot.diff()), [4, 6]);
    assert.deepEqual(pagesOf(tracker.collect()), [6]);
    snapshot.restore();
    assert.deepEqual(pagesOf(tracker.collect()), [4, 6], 'restoring is writing');
    assert.deepEqual(pagesOf(snapshot.diff()), []);
    snapshot.close();
    touch(region.bytes, 9, 2);
    assert.deepEqual(pagesOf(tracker.collect()), [9]);
  });

  test('it reports plain Wasm memory that grew from where it grew, as a whole (B2)', () => {
    const { memory, bytes } = wasm(1);
    using tracker = track(memory);
    touch(bytes(), 3, 1);
    memory.grow(1);
    assert.deepEqual(pagesOf(tracker.collect()), [3, ...pageRun(WASM, WASM)]);
    assert.deepEqual(pagesOf(tracker.collect()), []);
    touch(bytes(), WASM + 5, 1);
    touch(bytes(), 1, 1);
    assert.deepEqual(pagesOf(tracker.collect()), [1, WASM + 5]);
  });

  test('it reports growth to peek() too, and again to the collect() that follows (B2)', () => {
    const { memory } = wasm(1);
    using tracker = track(memory);
    memory.grow(2);
    assert.deepEqual(pagesOf(tracker.peek()), pageRun(WASM, 2 * WASM));
    assert.deepEqual(pagesOf(tracker.peek()), pageRun(WASM, 2 * WASM));
    assert.deepEqual(pagesOf(tracker.collect()), pageRun(WASM, 2 * WASM));
    assert.deepEqual(pagesOf(tracker.collect()), []);
  });

  test('it follows Wasm memory that starts without any page (B2)', () => {
    const { memory, bytes } = wasm(0);
    using tracker = track(memory);
    assert.equal(tracker.collect().isEmpty, true);
    memory.grow(1);
    touch(bytes(), 2, 1);
    assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, WASM));
    touch(bytes(), 2, 2);
    assert.deepEqual(pagesOf(tracker.collect()), [2]);
  });

  test('it forgets memory without any page when it closes', async () => {
    await passScenario('dirty', 'emptyMemories', { args: [engine] });
  });

  test('it loses nothing when memory grows in several steps with collects and writes between (B2)', () => {
    const { memory, bytes } = wasm(1);
    using tracker = track(memory);
    memory.grow(1);
    touch(bytes(), WASM, 1);
    memory.grow(3);
    touch(bytes(), 4 * WASM + 1, 1);
    assert.deepEqual(pagesOf(tracker.collect()), pageRun(WASM, 4 * WASM));
    // What is new now is written before it was ever looked at, what was new before is known.
    memory.grow(1);
    touch(bytes(), 5 * WASM, 1);
    touch(bytes(), 2 * WASM, 1);
    assert.deepEqual(pagesOf(tracker.collect()), [2 * WASM, ...pageRun(5 * WASM, WASM)]);
    touch(bytes(), 5 * WASM, 2);
    assert.deepEqual(pagesOf(tracker.collect()), [5 * WASM]);
    assert.equal(bytes()[5 * WASM_PAGE], 2);
  });

  test('it tells each of two trackers of one memory that it grew (B2, B19)', () => {
    const { memory, bytes } = wasm(1);
    using first = track(memory);
    memory.grow(1);
    using late = track(memory);
    touch(bytes(), WASM + 1, 1);
    assert.deepEqual(pagesOf(late.collect()), [WASM + 1]);
    assert.deepEqual(pagesOf(first.collect()), pageRun(WASM, WASM));
    touch(bytes(), WASM + 2, 1);
    assert.deepEqual(pagesOf(first.collect()), [WASM + 2]);
    assert.deepEqual(pagesOf(late.collect()), [WASM + 2]);
  });

  test('it reports shared Wasm memory that a Worker grew and wrote (B2)', async () => {
    const { memory, bytes } = wasm(2, 100, true);
    await using writer = new PageWriter(memory);
    using tracker = track(memory);
    writer.write([1], 1);
    writer.grow(2);
    writer.write([2 * WASM + 3, 4 * WASM - 1], 1);
    // The other thread's growth reaches this thread's `memory.buffer` at its next interrupt check.
    while (memory.buffer.byteLength < 4 * WASM_PAGE) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(pagesOf(tracker.collect()), [1, ...pageRun(2 * WASM, 2 * WASM)]);
    writer.write([2 * WASM + 4], 1);
    assert.deepEqual(pagesOf(tracker.collect()), [2 * WASM + 4]);
    assert.equal(bytes()[(4 * WASM - 1) * PAGE], 1);
  });

  testAnyBuffer('it follows a resizable ArrayBuffer that grows, by whole pages and by bytes (B2)', () => {
    const buffer = resizableBuffer(2 * PAGE, 64 * PAGE);
    const bytes = new Uint8Array(buffer);
    using tracker = track(buffer);
    touch(bytes, 1, 1);
    assert.deepEqual(pagesOf(tracker.collect(), bytes), [1]);
    buffer.resize(4 * PAGE);
    assert.deepEqual(pagesOf(tracker.collect(), bytes), [2, 3]);
    buffer.resize(4 * PAGE + 10);
    assert.deepEqual(pagesOf(tracker.collect(), bytes), [4]);
    // Within one page: its new bytes are new although the page is not.
    buffer.resize(4 * PAGE + 20);
    assert.deepEqual(pagesOf(tracker.collect(), bytes), [4]);
    assert.deepEqual(pagesOf(tracker.collect(), bytes), []);
    bytes[4 * PAGE + 15] = 1;
    assert.deepEqual(pagesOf(tracker.collect(), bytes), [4]);
  });

  testAnyBuffer(
    'it follows a resizable ArrayBuffer that shrinks, and reports what comes back after that (B2)',
    () => {
      const buffer = resizableBuffer(32 * PAGE, 64 * PAGE);
      const bytes = new Uint8Array(buffer);
      bytes.fill(9);
      using tracker = track(buffer);
      touch(bytes, 2, 1);
      touch(bytes, 30, 1);
      buffer.resize(8 * PAGE);
      assert.deepEqual(pagesOf(tracker.collect(), bytes), [2]);
      touch(bytes, 7, 1);
      assert.deepEqual(pagesOf(tracker.collect(), bytes), [7]);
      buffer.resize(16 * PAGE);
      assert.deepEqual(pagesOf(tracker.collect(), bytes), pageRun(8, 8));
      // Shrunk and grown to the same size between two looks: the size alone tells nothing.
      buffer.resize(4 * PAGE);
      buffer.resize(16 * PAGE);
      assert.equal(bytes[7 * PAGE], 0);
      const back = pagesOf(tracker.collect(), bytes);
      // Page 7 is the only one of those that lost bytes which were not zero; the others may be told or not.
      assert.ok(back.includes(7), `page 7 lost its bytes, reported are ${back.join(', ')}`);
      assert.ok(back.every((page) => page >= 4));
      touch(bytes, 15, 1);
      assert.ok(pagesOf(tracker.collect(), bytes).includes(15));
    },
  );

  testAnyBuffer('it follows a resizable ArrayBuffer to nothing and back (B2)', async () => {
    await passScenario('dirty', 'shrunkToNothing', { args: [engine] });
  });

  testAnyBuffer(
    'it follows a growable SharedArrayBuffer, also when a Worker writes the new part (B2)',
    async () => {
      const buffer = growableBuffer(2 * PAGE, 64 * PAGE);
      await using writer = new PageWriter(buffer);
      using tracker = track(buffer);
      writer.write([1], 1);
      assert.deepEqual(pagesOf(tracker.collect()), [1]);
      buffer.grow(8 * PAGE);
      writer.write([6], 1);
      assert.deepEqual(pagesOf(tracker.collect()), pageRun(2, 6));
      writer.write([0, 6], 2);
      assert.deepEqual(pagesOf(tracker.collect()), [0, 6]);
    },
  );

  testAnyBuffer('it tracks only its own bytes of a buffer that grows behind a view of fixed length', () => {
    const buffer = resizableBuffer(4 * PAGE, 16 * PAGE);
    using tracker = track(new Uint8Array(buffer, PAGE, 2 * PAGE));
    buffer.resize(8 * PAGE);
    const bytes = new Uint8Array(buffer);
    touch(bytes, 5, 1);
    touch(bytes, 2, 1);
    assert.deepEqual(pagesOf(tracker.collect()), [1]);
  });

  test('it reports pages that were given back to the kernel, which read as zero', () => {
    const region = Region.allocate({ bytes: 32 * MIB });
    const { bytes } = region;
    const pages = (32 * MIB) / PAGE;
    for (let page = 0; page < pages; page++) touch(bytes, page, 1);
    using tracker = track(region);
    const holes = [
      { offset: 5 * PAGE, length: PAGE },
      // Spans whole page tables, wherever the region lies.
      { offset: 3 * PAGE, length: 12 * MIB },
      { offset: 0, length: 32 * MIB },
    ];
    for (const { offset, length } of holes) {
      const hole = pageRun(offset / PAGE, length / PAGE);
      const changed = hole.filter((page) => engine !== 'compare' || bytes[page * PAGE] !== 0);
      region.discard(offset, length);
      assert.deepEqual(pagesOf(tracker.collect()), changed);
      assert.ok(hole.every((page) => bytes[page * PAGE] === 0));
      assert.deepEqual(pagesOf(tracker.collect()), [], 'reading them back is not writing');
      touch(bytes, hole.at(-1)!, 3);
      assert.deepEqual(pagesOf(tracker.collect()), [hole.at(-1)!], 'they are armed again');
    }
  });

  test('it reports discarded pages of Wasm memory', () => {
    const { memory, bytes } = wasm(4);
    using region = Region.from(memory);
    bytes().fill(3);
    using tracker = track(region);
    region.discard(WASM_PAGE, WASM_PAGE);
    assert.deepEqual(pagesOf(tracker.collect()), pageRun(WASM, WASM));
    assert.equal(bytes()[WASM_PAGE], 0);
    assert.equal(bytes()[WASM_PAGE - 1], 3);
  });

  test('it loses nothing when child processes are started while it tracks', async () => {
    const { memory, bytes } = wasm(16);
    const region = Region.allocate({ bytes: 64 * PAGE });
    // Neither V8 nor this package gives children their memory. Memory that a child gets the kernel marks
    // copy-on-write.
    assert.equal(testing().inheritOnFork(region.bytes), undefined);
    assert.equal(testing().inheritOnFork(bytes()), undefined);
    const random = seeded(3);
    using tracker = track([memory, region]);
    for (let round = 0; round < 30; round++) {
      const before = Array.from({ length: 20 }, () => random(16 * WASM));
      const after = Array.from({ length: 20 }, () => random(16 * WASM));
      for (const page of before) touch(bytes(), page, round + 1);
      for (const page of before) touch(region.bytes, page % 64, round + 1);
      const child = spawn('/bin/true', { stdio: 'ignore' });
      for (const page of after) touch(bytes(), page, 100 + round);
      const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
      if (round % 2 === 0) assert.equal(await ended, 0);
      const dirty = tracker.collect();
      assert.deepEqual(pagesOf(dirty.of(0)), sorted([...before, ...after]), `round ${round}`);
      assert.deepEqual(pagesOf(dirty.of(1)), sorted(before.map((page) => page % 64)), `round ${round}`);
      assert.equal(await ended, 0);
    }
    touch(bytes(), 1, 1);
    assert.equal(spawnSync('/bin/true').status, 0);
    touch(bytes(), 2, 1);
    const child = fork(require.resolve('../scenarios/dirty-worker.js'), {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    touch(bytes(), 3, 1);
    assert.equal(await new Promise<number | null>((resolve) => child.on('exit', resolve)), 0);
    touch(bytes(), 4, 1);
    assert.deepEqual(pagesOf(tracker.collect().of(0)), [1, 2, 3, 4]);
  });

  test('it throws ERR_UFFD_CLOSED after close(), and closing twice is fine', () => {
    const region = Region.allocate({ bytes: 4 * PAGE });
    const tracker = track(region);
    assert.equal(tracker.closed, false);
    tracker.close();
    tracker.close();
    tracker[Symbol.dispose]();
    assert.equal(tracker.closed, true);
    assert.throws(() => tracker.collect(), closed);
    assert.throws(() => tracker.peek(), closed);
    assert.throws(() => tracker.watch(), closed);
  });

  for (const kind of kinds) {
    test(`it leaves the memory usable and free when it closes: ${kind.name}`, () => {
      const { memory, bytes } = kind.make(WASM);
      bytes.fill(4);
      const tracker = track(memory);
      touch(bytes, 3, 5);
      tracker.close();
      touch(bytes, 2, 6);
      assert.equal(bytes[offsetOf(3, bytes)], 5);
      using again = track(memory);
      assert.deepEqual(
        pagesOf(again.collect(), bytes).filter((page) => page === 2 || page === 3),
        [],
        'a new tracker starts clean',
      );
      touch(bytes, 5, 1);
      assert.ok(again.collect().has(offsetOf(5, bytes)));
    });
  }

  if (engine !== 'compare')
    test('it lets a Userfaultfd register the memory when it is closed, and not before', () => {
      using uffd = Userfaultfd.open();
      const owned = Region.allocate({ bytes: 4 * PAGE });
      const ofWasm = Region.from(wasm(1).memory);
      for (const region of [owned, ofWasm]) {
        const tracker = track(region);
        assert.throws(() => uffd.register(region, 'write-protect'), { code: 'ERR_UFFD_BUSY' });
        touch(region.bytes, 1, 1);
        assert.deepEqual(pagesOf(tracker.collect()), [1], 'the attempt disturbed nothing');
        tracker.close();
        uffd.register(region, 'write-protect').close();
        using again = track(region);
        touch(region.bytes, 2, 1);
        assert.deepEqual(pagesOf(again.collect()), [2]);
      }
    });

  if (engine !== 'compare')
    test('it cannot track what a Userfaultfd has registered, and then nothing stays armed', () => {
      using uffd = Userfaultfd.open();
      const free = Region.allocate({ bytes: 4 * PAGE });
      const taken = Region.allocate({ bytes: 4 * PAGE });
      uffd.register(taken, 'write-protect');
      assert.throws(() => track([free, taken]), { code: 'ERR_UFFD_BUSY' });
      // The first of the two was tracked for a moment; it is free again.
      uffd.register(free, 'write-protect');
      if (capabilities().pagemapScan.works) assert.equal(uffd.armedPages(free), 0);
    });

  test('it throws ERR_UFFD_CLOSED once its region is closed, and keeps what it knows of the others', () => {
    const gone = Region.allocate({ bytes: 4 * PAGE });
    const stays = Region.allocate({ bytes: 4 * PAGE });
    using alone = track(stays);
    const tracker = track([gone, stays]);
    touch(stays.bytes, 1, 1);
    gone.close();
    assert.throws(() => tracker.collect(), closed);
    assert.throws(() => tracker.peek(), closed);
    assert.deepEqual(pagesOf(alone.collect()), [1], 'the failed collect consumed nothing');
    tracker.close();
    touch(stays.bytes, 2, 1);
    assert.deepEqual(pagesOf(alone.collect()), [2]);
  });

  testAnyBuffer(
    'it throws ERR_UFFD_DETACHED when the buffer was detached, and never calls it clean (C7)',
    () => {
      const buffer = new ArrayBuffer(8 * PAGE);
      const other = Region.allocate({ bytes: 4 * PAGE });
      const tracker = track([other, buffer]);
      touch(other.bytes, 1, 1);
      structuredClone(buffer, { transfer: [buffer] });
      assert.equal(buffer.byteLength, 0);
      assert.throws(() => tracker.collect(), { code: 'ERR_UFFD_DETACHED' });
      assert.throws(() => tracker.peek(), { code: 'ERR_UFFD_DETACHED' });
      tracker.close();
      using again = track(other);
      touch(other.bytes, 2, 1);
      assert.deepEqual(pagesOf(again.collect()), [2]);
    },
  );

  for (const held of ['memory', 'region']) {
    test(`it lets go of its memory when the garbage collector takes it and the program holds the ${held} (C6)`, async () => {
      await passScenario('dirty', 'collectedTrackers', { nodeArgs: ['--expose-gc'], args: [engine, held] });
    });
  }

  test('it keeps tracked memory alive when the program drops it (C6)', async () => {
    await passScenario('dirty', 'droppedMemory', { nodeArgs: ['--expose-gc'], args: [engine] });
  });

  // The kernel hands results over 512 at a time inside and 32,768 at a time to this package.
  const many = [1, 2, 511, 512, 513, 1023, 1024, 1025, 4096, 32_767, 32_768, 32_769, 40_000, 65_536];
  // A fault for each page takes its time.
  const counts = engine === 'wp-sync' ? many.filter((count) => count <= 1024 || count === 32_769) : many;
  for (const count of counts) {
    test(`it reports ${count.toLocaleString('en')} scattered pages, each once (B1)`, () => {
      // Odd: the last page of the memory is one of them.
      for (const odd of count < 2000 ? [0, 1] : [1]) {
        const region = Region.allocate({ bytes: 2 * count * PAGE });
        const { bytes } = region;
        using tracker = track(region);
        for (let i = 0; i < count; i++) bytes[(2 * i + odd) * PAGE] = 1;
        for (const look of ['peek', 'collect'] as const) {
          const dirty = tracker[look]();
          assert.equal(dirty.pageCount, count, look);
          let i = 0;
          for (const { offset, length } of dirty) {
            // Compared here and not with deepEqual: 65,536 times.
            if (offset !== (2 * i + odd) * PAGE || length !== PAGE)
              assert.fail(`${look}: range ${i} is ${offset}+${length}`);
            i++;
          }
          assert.equal(i, count, look);
        }
        assert.equal(tracker.collect().isEmpty, true);
        bytes[odd * PAGE] = 2;
        bytes[(2 * count - 2 + odd) * PAGE] = 2;
        assert.deepEqual(
          pagesOf(tracker.collect()),
          sorted([odd, 2 * count - 2 + odd]),
          'every page was re-armed',
        );
        region.close();
      }
    });
  }

  test('it merges what is adjacent into one range, also across the 512 of the kernel (B1)', () => {
    const region = Region.allocate({ bytes: 4096 * PAGE });
    using tracker = track(region);
    region.bytes.fill(1, PAGE, 4095 * PAGE);
    assert.deepEqual([...tracker.collect()], [{ offset: PAGE, length: 4094 * PAGE }]);
  });

  test('it tracks offsets beyond 32 bits (B22)', () => {
    // The longest buffer of Node.js 20 is 4 GiB.
    const bytes = Math.min(5 * 1024 * MIB, constants.MAX_LENGTH);
    const region = Region.allocate({ bytes });
    using tracker = track(region);
    const wanted = [0, 2 ** 31 - PAGE, 2 ** 31, 2 ** 32 - PAGE, 2 ** 32, 5 * 1024 * MIB - PAGE];
    const offsets = wanted.filter((offset) => offset < bytes);
    for (const offset of offsets) region.bytes[offset] = 1;
    const dirty = tracker.collect();
    assert.deepEqual(
      pagesOf(dirty),
      offsets.map((offset) => offset / PAGE),
    );
    assert.ok(offsets.every((offset) => dirty.has(offset)));
    assert.equal(tracker.collect().isEmpty, true);
    region.close();
  });
}
