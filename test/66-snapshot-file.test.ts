// Snapshots in files: what is saved comes back, whole or by differences, and costs what it holds.

import assert from 'node:assert/strict';
import {
  createReadStream,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, test, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { createGunzip, createGzip } from 'node:zlib';
import { DirtyTracker, Region, Snapshot, SnapshotFile, type SaveProgress } from '../lib/index.js';
import { saveSnapshot, streamSnapshot } from '../lib/snapshot-save.js';
import { KINDS, PAGE, pagesOf, pageRun, seeded, touch, WASM } from './scenarios/dirty-support.js';
import { passScenario } from './support/scenario.js';
import { assertOnly, assertSame, directoryFor, sourceOf, writePages } from './support/snapshot-files.js';

for (const kind of KINDS) {
  test(`it saves and restores every byte, whole and as a difference: ${kind.name}`, async (t) => {
    const directory = directoryFor(t);
    const [full, difference] = [path.join(directory, 'full'), path.join(directory, 'difference')];
    const { memory, bytes } = kind.make(4 * WASM);
    bytes.forEach((_, i) => (bytes[i] = i * 7));
    bytes.fill(0, 5 * PAGE, 30 * PAGE);
    const before = Buffer.from(bytes);
    using snapshot = Snapshot.take(memory);
    bytes.fill(9, PAGE, 2 * PAGE);
    await snapshot.save(full);
    bytes.fill(0, 40 * PAGE, 42 * PAGE);
    bytes[bytes.length - 1]! ^= 255;
    const after = Buffer.from(bytes);
    using second = Snapshot.take(memory);
    await second.save(difference, { parent: full });
    assert.ok(statSync(difference).size < 7 * PAGE);

    using file = await SnapshotFile.open(full);
    using newer = await SnapshotFile.open(difference);
    assert.deepEqual(file.byteLengths, [bytes.byteLength]);
    assertSame(await file.read(), before, 'read() of the full file');
    assertSame(await newer.read(), after, 'read() of the difference');
    assertSame(await newer.read(39 * PAGE + 5, 4 * PAGE), after.subarray(39 * PAGE + 5, 43 * PAGE + 5));
    bytes.fill(0xee);
    await file.restore(memory);
    assertSame(bytes, before, 'restore() of the full file');
    await newer.restore(memory);
    assertSame(bytes, after, 'restore() of the difference');
    assert.deepEqual(await newer.restore(memory), { pages: 0, bytes: 0 });
  });
}

for (const mode of ['copy', 'copy-on-write']) {
  test(`a difference costs what was written since: ${mode}`, async () => {
    await passScenario('snapshot-file', 'costOfDifference', { args: [mode], timeoutMs: 30_000 });
  });
}

for (const how of ['alias', 'closed alias', 'file', 'posted buffer and alias']) {
  test(`a difference is right where memory changed through its ${how}`, async () => {
    await passScenario('snapshot-file', 'changedElsewhere', { args: [how] });
  });
}

/** A snapshot in the file `full`, and one of the same memory that was written since. */
async function savedAndChanged(t: TestContext): Promise<{
  directory: string;
  at: (name: string) => string;
  first: Snapshot;
  second: Snapshot;
}> {
  const directory = directoryFor(t);
  const at = (name: string): string => path.join(directory, name);
  const region = Region.allocate({ bytes: 4 * PAGE });
  writePages(region.bytes, [1], 1);
  const first = Snapshot.take(region);
  await first.save(at('full'));
  writePages(region.bytes, [2], 2);
  const second = Snapshot.take(region);
  t.after(() => [first, second].forEach((snapshot) => snapshot.close()));
  return { directory, at, first, second };
}

test('from() never replaces what the new file is a difference from', async (t) => {
  const { directory, at, first, second } = await savedAndChanged(t);
  await assert.rejects(
    SnapshotFile.from(second.stream({ parent: at('full') }), { path: at('full'), parents: [at('full')] }),
    { code: 'ERR_INVALID_ARG_VALUE' },
  );
  using file = await SnapshotFile.open(at('full'));
  assertSame(await file.read(), Buffer.from(first.read()));
  assertOnly(directory, 'full');
});

test('compact() replaces the newest of a chain, and none that it is a difference from', async (t) => {
  const { at, second } = await savedAndChanged(t);
  await second.save(at('difference'), { parent: at('full') });
  await assert.rejects(SnapshotFile.compact(at('difference'), at('full')), { code: 'ERR_INVALID_ARG_VALUE' });
  await SnapshotFile.compact(at('difference'), at('difference'));
  using file = await SnapshotFile.open(at('difference'));
  assert.equal(file.info().chain.length, 1);
  assertSame(await file.read(), Buffer.from(second.read()));
});

for (const kind of ['generator', 'web stream']) {
  test(`from() hears an abort while it waits for a ${kind}`, async (t) => {
    const directory = directoryFor(t);
    const abort = new AbortController();
    async function* stuck(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('UFFDSNAP');
      abort.abort();
      await new Promise(() => undefined);
    }
    const source =
      kind === 'generator' ? stuck() : new ReadableStream<Uint8Array>({ pull: () => abort.abort() });
    await assert.rejects(
      SnapshotFile.from(source as AsyncIterable<Uint8Array>, {
        path: path.join(directory, 'file'),
        signal: abort.signal,
      }),
      { name: 'AbortError' },
    );
    assertOnly(directory);
  });
}

test('a difference is right where it has no older snapshot to go by', async () => {
  await passScenario('snapshot-file', 'noShortCut', { timeoutMs: 30_000 });
});

for (const resolver of ['loop', 'in-thread']) {
  test(`it saves a snapshot that is not yet captured, resolver ${resolver}`, async () => {
    await passScenario('snapshot-file', 'beforeReady', { args: [resolver], timeoutMs: 30_000 });
  });
}

test('it keeps several memories, also one without pages, and puts each back where it was', async (t) => {
  const file = path.join(directoryFor(t), 'several');
  const memories = [
    Region.allocate({ bytes: 3 * PAGE }),
    new WebAssembly.Memory({ initial: 0, maximum: 2 }),
    Region.allocate({ bytes: 40 * PAGE }),
  ] as const;
  writePages(memories[0].bytes, [1], 1);
  writePages(memories[2].bytes, pageRun(20, 20), 2);
  const before = Buffer.from(memories[2].bytes);
  using snapshot = Snapshot.take(memories);
  assert.equal((await snapshot.save(file)).pages, 21);
  memories[0].bytes.fill(1);
  memories[2].bytes.fill(1);
  using saved = await SnapshotFile.open(file);
  assert.deepEqual(saved.byteLengths, [3 * PAGE, 0, 40 * PAGE]);
  assert.equal((await saved.restore(memories)).pages, 3 + 40);
  assertSame(memories[2].bytes, before);
  assert.equal((await saved.read(0, undefined, 1)).length, 0);
  await assert.rejects(saved.restore([memories[0], memories[2]]), { code: 'ERR_INVALID_ARG_VALUE' });
  await assert.rejects(saved.restore([memories[2], memories[1], memories[0]]), {
    code: 'ERR_UFFD_SNAPSHOT_LENGTH',
  });
});

test('it makes a chain of differences over a memory that changes, grows and shrinks; each link is exact', async (t) => {
  const directory = directoryFor(t);
  const random = seeded(66);
  const states: Buffer[] = [];
  let bytes = Buffer.alloc(37 * PAGE + 1234);
  let parent: SnapshotFile | undefined;
  for (let link = 0; link < 30; link++) {
    if (link % 5 === 4)
      bytes = Buffer.concat([
        bytes.subarray(0, 5 * PAGE + random(bytes.length - 5 * PAGE)),
        Buffer.alloc(random(20 * PAGE)),
      ]);
    const pages = Math.ceil(bytes.length / PAGE);
    for (let i = 0; i < 6; i++) writePages(bytes, [random(pages)], random(1 << 30));
    for (let i = 0; i < 3; i++) {
      const page = random(pages);
      bytes.subarray(page * PAGE, (page + 1 + random(2)) * PAGE).fill(0);
    }
    const name = path.join(directory, `link-${link}`);
    await saveSnapshot(sourceOf(bytes), name, parent && { parent });
    states.push(Buffer.from(bytes));
    parent?.close();
    parent = await SnapshotFile.open(name);
  }
  parent?.close();
  for (const [link, state] of states.entries()) {
    using file = await SnapshotFile.open(path.join(directory, `link-${link}`));
    assert.equal(file.info().chain.length, link + 1);
    assertSame(await file.read(), state, `link ${link}`);
    const memory = Buffer.alloc(state.length, 3);
    await file.restore(memory);
    assertSame(memory, state, `restore of link ${link}`);
    const one = path.join(directory, 'compact');
    const { digest } = await SnapshotFile.compact(file, one);
    const whole = await saveSnapshot(sourceOf(state), path.join(directory, 'whole'));
    assert.equal(digest, whole.digest, 'a compacted chain is the file that a full save writes');
    using compacted = await SnapshotFile.open(one);
    assert.equal((await SnapshotFile.diff(compacted, file)).isEmpty, true);
    using other = await SnapshotFile.open(path.join(directory, `link-${random(states.length)}`));
    const different = await SnapshotFile.diff(file, other);
    assert.deepEqual(pagesOf(different), differingPages(state, Buffer.from(await other.read())));
    assert.throws(() => different.bytes(state), { code: 'ERR_UFFD_NO_MEMORY' });
  }
});

function differingPages(a: Buffer, b: Buffer): number[] {
  const size = Math.ceil(Math.max(a.length, b.length) / PAGE) * PAGE;
  const [first, second] = [a, b].map((bytes) => Buffer.concat([bytes, Buffer.alloc(size - bytes.length)]));
  return pageRun(0, size / PAGE).filter((page) => {
    const [from, to] = [page * PAGE, (page + 1) * PAGE];
    return !first!.subarray(from, to).equals(second!.subarray(from, to));
  });
}

test('a difference holds the pages whose content changed, not those that were written', async (t) => {
  const directory = directoryFor(t);
  const region = Region.allocate({ bytes: 64 * PAGE });
  writePages(region.bytes, pageRun(0, 32), 1);
  using first = Snapshot.take(region);
  await first.save(path.join(directory, 'full'));
  for (const page of pageRun(0, 32)) touch(region.bytes, page, region.bytes[page * PAGE]!);
  touch(region.bytes, 3, 0);
  touch(region.bytes, 40, 1);
  region.bytes.fill(0, 7 * PAGE, 9 * PAGE);
  touch(region.bytes, 50, 0);
  using second = Snapshot.take(region);
  const stats = await second.save(path.join(directory, 'difference'), {
    parent: path.join(directory, 'full'),
  });
  assert.deepEqual([stats.pages, stats.zeroPages], [2, 2]);
  assert.equal(stats.bytes, statSync(path.join(directory, 'difference')).size);
  using full = await SnapshotFile.open(path.join(directory, 'full'));
  using difference = await SnapshotFile.open(path.join(directory, 'difference'));
  assert.deepEqual(pagesOf(await SnapshotFile.diff(full, difference)), [3, 7, 8, 40]);
  assert.equal(difference.info().nonZeroPages, 31);
});

test('it streams the very bytes of the file, through a pipeline and back', async (t) => {
  const directory = directoryFor(t);
  const [name, packed, kept] = ['file', 'packed', 'kept'].map((each) => path.join(directory, each));
  const region = Region.allocate({ bytes: 700 * PAGE });
  writePages(region.bytes, pageRun(3, 500), 1);
  const before = Buffer.from(region.bytes);
  using snapshot = Snapshot.take(region);
  await snapshot.save(name!);
  const streamed = Buffer.concat(await snapshot.stream().toArray());
  assertSame(streamed, readFileSync(name!), 'the stream');

  await pipeline(snapshot.stream(), createGzip(), async (source) => fs.writeFile(packed!, source));
  const unpacked = Readable.from([readFileSync(packed!)]).pipe(createGunzip());
  using file = await SnapshotFile.from(unpacked, { path: kept! });
  assert.equal(file.path, kept);
  assertSame(readFileSync(kept!), streamed, 'what was received');
  using unnamed = await SnapshotFile.from(Readable.from([streamed]));
  assert.equal(unnamed.path, undefined);
  assert.equal(unnamed.digest, file.digest);
  touch(region.bytes, 600, 1);
  using second = Snapshot.take(region);
  using difference = await SnapshotFile.from(second.stream({ parent: unnamed }), { parents: [unnamed] });
  unnamed.close();
  await difference.verify();
  region.bytes.fill(8);
  await difference.restore(region);
  touch(region.bytes, 600, 0);
  assertSame(region.bytes, before);
  assertOnly(directory, 'file', 'packed', 'kept');
});

test('its stream waits for whoever reads it, and takes no more of the snapshot meanwhile', async () => {
  const bytes = new Uint8Array(64 << 20).fill(1);
  let reads = 0;
  const source = sourceOf(bytes);
  const stream = streamSnapshot({
    ...source,
    read: (...args) => {
      reads++;
      return source.read(...args);
    },
  });
  stream.read(0);
  for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(reads <= 2, `${reads} reads although nobody takes the bytes`);
  const ended = new Promise((resolve) => stream.once('close', resolve));
  stream.destroy();
  await ended;
  assert.ok(reads <= 3);
});

for (const how of ['writes over', 'transfers']) {
  test(`its stream is right whoever ${how} what was taken from it`, async (t) => {
    const parent = path.join(directoryFor(t), 'parent');
    const bytes = Buffer.alloc(600 * PAGE);
    writePages(bytes, pageRun(0, 600), 1);
    await saveSnapshot(sourceOf(bytes), parent);
    writePages(bytes, pageRun(100, 300), 2);
    for (const options of [{}, { parent }]) {
      const chunks: Buffer[] = [];
      for await (const chunk of streamSnapshot(sourceOf(bytes), options) as AsyncIterable<Buffer>) {
        chunks.push(Buffer.from(chunk));
        // What Node.js shares between small buffers cannot be transferred.
        const own = chunk.length === chunk.buffer.byteLength && chunk.length >= PAGE;
        if (how === 'transfers' && own)
          structuredClone(chunk.buffer, { transfer: [chunk.buffer as ArrayBuffer] });
        else chunk.fill(0xee);
      }
      using file = await SnapshotFile.from(Readable.from(chunks), { parents: [parent] });
      await file.verify();
      assertSame(await file.read(), bytes);
    }
  });
}

test('it makes only pages dirty that it has to write', async (t) => {
  const name = path.join(directoryFor(t), 'file');
  const region = Region.allocate({ bytes: 64 * PAGE });
  writePages(region.bytes, pageRun(0, 20), 1);
  using snapshot = Snapshot.take(region);
  await snapshot.save(name);
  using tracker = new DirtyTracker(region);
  touch(region.bytes, 4, 99);
  touch(region.bytes, 30, 99);
  touch(region.bytes, 31, 0);
  tracker.collect();
  using file = await SnapshotFile.open(name);
  assert.deepEqual(await file.restore(region), { pages: 2, bytes: 2 * PAGE });
  assert.deepEqual(pagesOf(tracker.collect()), [4, 30]);
});

test('it reports progress up to the end, in bytes', async (t) => {
  const directory = directoryFor(t);
  const region = Region.allocate({ bytes: 900 * PAGE });
  writePages(region.bytes, pageRun(0, 300), 1);
  using snapshot = Snapshot.take(region);
  const seen = async (
    work: (onProgress: (progress: SaveProgress) => void) => Promise<unknown>,
  ): Promise<SaveProgress> => {
    let last: SaveProgress = { done: 0, total: 0 };
    await work((progress) => {
      assert.ok(progress.done > last.done, 'it goes on');
      last = progress;
    });
    return last;
  };
  const [name, one] = [path.join(directory, 'file'), path.join(directory, 'compact')];
  const whole = { done: 900 * PAGE, total: 900 * PAGE };
  const pages = { done: 300 * PAGE, total: 300 * PAGE };
  assert.deepEqual(await seen((onProgress) => snapshot.save(name, { onProgress })), whole);
  using file = await SnapshotFile.open(name);
  assert.deepEqual(await seen((onProgress) => file.verify({ onProgress })), pages);
  assert.deepEqual(await seen((onProgress) => file.restore(region, { onProgress })), pages);
  assert.deepEqual(await seen((onProgress) => SnapshotFile.compact(file, one, { onProgress })), pages);
});

test('it writes for the owner only, and through a symbolic link to what that leads to', async (t) => {
  const directory = directoryFor(t);
  const [name, link] = [path.join(directory, 'file'), path.join(directory, 'link')];
  writeFileSync(name, 'old', { mode: 0o644 });
  symlinkSync('file', link);
  await saveSnapshot(sourceOf(Buffer.alloc(PAGE, 1)), link);
  assert.equal(statSync(name).mode & 0o777, 0o600);
  assertOnly(directory, 'file', 'link');
  using file = await SnapshotFile.open(link);
  assert.equal((await file.read())[0], 1);
});

test('it makes the file that a symbolic link leads to when that is not there yet', async (t) => {
  const directory = directoryFor(t);
  const at = (...names: string[]): string => path.join(directory, ...names);
  await fs.mkdir(at('inner'));
  symlinkSync('inner', at('way'));
  symlinkSync('../second', at('inner', 'first'));
  symlinkSync('inner/file', at('second'));
  await saveSnapshot(sourceOf(Buffer.alloc(PAGE, 1)), at('way', 'first'));
  using file = await SnapshotFile.open(at('inner', 'file'));
  assert.equal((await file.read())[0], 1);
  assertOnly(directory, 'inner', 'second', 'way');
  assertOnly(at('inner'), 'file', 'first');
  symlinkSync('nowhere/file', at('lost'));
  await assert.rejects(saveSnapshot(sourceOf(Buffer.alloc(PAGE, 1)), at('lost')), {
    code: 'ENOENT',
    path: at('lost'),
  });
});

for (const kind of ['async', 'sync']) {
  test(`from() takes the bytes of a ${kind} generator that fills one buffer again and again`, async (t) => {
    const directory = directoryFor(t);
    const bytes = Buffer.from(Array.from({ length: 300 * PAGE }, (_, i) => (i * 7) & 255));
    await saveSnapshot(sourceOf(bytes), path.join(directory, 'saved'));
    const saved = readFileSync(path.join(directory, 'saved'));
    function* filledAgain(): Generator<Uint8Array> {
      const buffer = Buffer.alloc(10_000);
      for (let at = 0; at < saved.length; at += buffer.length) {
        yield buffer.subarray(0, saved.copy(buffer, 0, at));
      }
      buffer.fill(0);
    }
    async function* later(): AsyncGenerator<Uint8Array> {
      await Promise.resolve();
      yield* filledAgain();
    }
    const source = kind === 'sync' ? filledAgain() : later();
    using file = await SnapshotFile.from(source, { path: path.join(directory, 'kept') });
    assertSame(await file.read(), bytes);
  });
}

test('from() takes any iterator that for await takes, and names what it cannot take', async () => {
  const type = { code: 'ERR_INVALID_ARG_TYPE' };
  const from = (iterator: unknown): Promise<SnapshotFile> =>
    SnapshotFile.from({ [Symbol.asyncIterator]: () => iterator } as AsyncIterable<Uint8Array>);
  const corrupt = { code: 'ERR_UFFD_SNAPSHOT_CORRUPT' };
  await assert.rejects(from({ next: () => ({ done: true, value: undefined }) }), corrupt);
  const text = { next: () => ({ done: false, value: 'x'.repeat(5000) }), return: () => undefined };
  await assert.rejects(from(text), (error: Error & { code: string }) => {
    return error.code === type.code && error.message.length < 300;
  });
  const mean = { next: () => ({ done: false, value: 1 }), return: () => assert.fail('not this error') };
  await assert.rejects(from(mean), type);
  await assert.rejects(from({ next: () => undefined }), type);
  await assert.rejects(from(null), type);
});

/** Each fails before anybody reads it. */
const FAILING_EARLY: Record<string, () => Readable> = {
  'a file that is not there': () => createReadStream('/nonexistent'),
  'a connection that is reset': () => {
    const connection = new PassThrough();
    process.nextTick(() => connection.destroy(new Error('reset')));
    return connection;
  },
  'a decompressor whose input is not there': () => {
    const gunzip = createGunzip();
    return createReadStream('/nonexistent')
      .on('error', (error) => gunzip.destroy(error))
      .pipe(gunzip);
  },
};

for (const [what, open] of Object.entries(FAILING_EARLY)) {
  for (const kept of [true, false]) {
    test(`from() rejects with what its source says: ${what}, ${kept ? 'kept' : 'not kept'}`, async (t) => {
      const directory = directoryFor(t);
      const source = open();
      const options = kept ? { path: path.join(directory, 'file') } : {};
      const rejected = SnapshotFile.from(source, options).then(
        () => assert.fail('it was received'),
        (error: unknown) => error,
      );
      // Nobody else listens for what it says.
      assert.equal(await rejected, source.errored);
      assertOnly(directory);
    });
  }
}

test('from() lets go of a stream that it does not read, whatever stands in the way', async (t) => {
  const directory = directoryFor(t);
  await saveSnapshot(sourceOf(Buffer.alloc(PAGE, 1)), path.join(directory, 'full'));
  const opened = (): Readable => createReadStream(path.join(directory, 'full'));
  for (const target of [directory, path.join(directory, 'none', 'file'), '/proc/self/file']) {
    const source = opened();
    await assert.rejects(SnapshotFile.from(source, { path: target }));
    assert.ok(source.destroyed, target);
  }
  const temporary = process.env['TMPDIR'];
  t.after(() =>
    temporary === undefined ? delete process.env['TMPDIR'] : (process.env['TMPDIR'] = temporary),
  );
  process.env['TMPDIR'] = path.join(directory, 'none');
  const source = opened();
  await assert.rejects(SnapshotFile.from(source), { code: 'ENOENT' });
  assert.ok(source.destroyed, 'without a place for a file without a name');
});

test('from() puts the file where it was told, also when the working directory changes', async (t) => {
  const [directory, other] = [directoryFor(t), directoryFor(t)];
  const before = process.cwd();
  t.after(() => process.chdir(before));
  await saveSnapshot(sourceOf(Buffer.alloc(PAGE, 1)), path.join(directory, 'full'));
  process.chdir(directory);
  async function* moving(): AsyncGenerator<Uint8Array> {
    yield await fs.readFile(path.join(directory, 'full'));
    process.chdir(other);
  }
  using file = await SnapshotFile.from(moving(), { path: 'kept' });
  assertOnly(directory, 'full', 'kept');
  assert.equal((await file.read())[0], 1);
});

test('a path is that of the moment of the call, whatever the working directory becomes', async (t) => {
  const [directory, other] = [directoryFor(t), directoryFor(t)];
  const before = process.cwd();
  t.after(() => process.chdir(before));
  const bytes = Buffer.alloc(4 * PAGE, 1);
  const from = async <T>(work: () => Promise<T>): Promise<T> => {
    process.chdir(directory);
    const working = work();
    process.chdir(other);
    return working;
  };
  await from(() => saveSnapshot(sourceOf(bytes), 'full'));
  bytes[0] = 2;
  await from(() => saveSnapshot(sourceOf(bytes), 'child', { parent: 'full' }));
  const stream = await from(() => Promise.resolve(streamSnapshot(sourceOf(bytes), { parent: 'full' })));
  const streamed = Readable.from(await stream.toArray());
  for (const open of [
    () => SnapshotFile.open('child'),
    () => SnapshotFile.open('child', { parents: ['full'] }),
    () => SnapshotFile.from(streamed, { parents: ['full'] }),
  ]) {
    using file = await from(open);
    assertSame(await file.read(), bytes);
  }
  await from(() => SnapshotFile.compact('child', 'whole'));
  assert.equal((await from(() => SnapshotFile.infoOf('whole'))).parent, undefined);
  assertOnly(directory, 'child', 'full', 'whole');
  assertOnly(other);
  // And is called as it was given.
  const missing = { code: 'ENOENT', path: 'none' };
  await assert.rejects(
    from(() => SnapshotFile.open('none')),
    missing,
  );
  await assert.rejects(
    from(() => saveSnapshot(sourceOf(bytes), 'new', { parent: 'none' })),
    missing,
  );
  await fs.rm(path.join(directory, 'full'));
  await assert.rejects(
    from(() => SnapshotFile.open('child')),
    { code: 'ERR_UFFD_SNAPSHOT_PARENT_MISSING', path: 'child' },
  );
});

test('a parent is found beside its child where `..` comes after a symbolic link', async (t) => {
  const directory = directoryFor(t);
  const at = (...names: string[]): string => path.join(directory, ...names);
  await fs.mkdir(at('real', 'inner'), { recursive: true });
  await fs.mkdir(at('other'));
  symlinkSync(at('real', 'inner'), at('other', 'link'));
  const bytes = Buffer.alloc(4 * PAGE, 1);
  await saveSnapshot(sourceOf(bytes), at('real', 'full'));
  bytes[0] = 2;
  await saveSnapshot(sourceOf(bytes), at('real', 'child'), { parent: at('real', 'full') });
  using file = await SnapshotFile.open(`${at('other', 'link')}/../child`);
  assertSame(await file.read(), bytes);
});

test('a path that only a directory can have is none of a file', async (t) => {
  const directory = directoryFor(t);
  await assert.rejects(saveSnapshot(sourceOf(Buffer.alloc(PAGE, 1)), `${directory}/new/`), {
    code: 'EISDIR',
  });
  assertOnly(directory);
});

test('a restore that began to write ends with the memory whole, whatever happens meanwhile', async (t) => {
  const name = path.join(directoryFor(t), 'full');
  const pages = 80 * 256;
  await saveSnapshot(sourceOf(Buffer.alloc(pages * PAGE, 1)), name);
  const mine = new Error('mine');
  const happenings: [what: string, act: (memory: WebAssembly.Memory) => void, error?: Error][] = [
    ['onProgress throws', () => { throw mine; }, mine], // prettier-ignore
    ['the memory grows', (memory) => memory.grow(1)],
    ['the file is closed', () => file.close()],
  ];
  let file!: SnapshotFile;
  for (const [what, act, expected] of happenings) {
    file = await SnapshotFile.open(name);
    const memory = new WebAssembly.Memory({ initial: pages / 16, maximum: pages / 16 + 1 });
    new Uint8Array(memory.buffer).fill(2);
    let acted = false;
    const restored = file.restore(memory, {
      onProgress: ({ done, total }) => {
        if (acted || done < total * 0.75) return;
        acted = true;
        act(memory);
      },
    });
    if (expected === undefined) await restored;
    else await assert.rejects(restored, expected, what);
    const bytes = new Uint8Array(memory.buffer, 0, pages * PAGE);
    assert.ok(bytes.every((byte) => byte === 1), what); // prettier-ignore
    file.close();
  }
});

test('from() calls what is wrong by the name the file was to have', async (t) => {
  const directory = directoryFor(t);
  const name = path.join(directory, 'kept');
  const bytes = Buffer.alloc(8 * PAGE, 1);
  await saveSnapshot(sourceOf(bytes), path.join(directory, 'full'));
  const saved = readFileSync(path.join(directory, 'full'));
  for (const at of [0, 100, PAGE + 1, saved.length - 1]) {
    const damaged = Buffer.from(saved);
    damaged[at]! ^= 1;
    const error = { code: 'ERR_UFFD_SNAPSHOT_CORRUPT', path: name };
    await assert.rejects(SnapshotFile.from([damaged], { path: name }), error, `byte ${at}`);
    assertOnly(directory, 'full');
  }
});

test('it finds parents beside the file or among those it is given, whatever they are called', async (t) => {
  const directory = directoryFor(t);
  const at = (...names: string[]): string => path.join(directory, ...names);
  const bytes = Buffer.alloc(8 * PAGE, 1);
  for (const [i, name] of ['a', 'b', 'c'].entries()) {
    bytes[i * PAGE] = 100;
    await saveSnapshot(sourceOf(bytes), at(name), i === 0 ? {} : { parent: at(['a', 'b'][i - 1]!) });
  }
  (await SnapshotFile.open(at('c'))).close();
  await fs.mkdir(at('elsewhere'));
  await fs.rename(at('a'), at('elsewhere', 'renamed'));
  const missing = { code: 'ERR_UFFD_SNAPSHOT_PARENT_MISSING', path: at('b') };
  await assert.rejects(SnapshotFile.open(at('c')), missing);
  await assert.rejects(saveSnapshot(sourceOf(bytes), at('d'), { parent: at('c') }), missing);
  assert.equal((await SnapshotFile.infoOf(at('c'))).parent?.name, 'b');
  using given = await SnapshotFile.open(at('c'), { parents: [at('elsewhere', 'renamed')] });
  assertSame(await given.read(), bytes);
  await SnapshotFile.compact([at('elsewhere', 'renamed'), at('b'), at('c')], at('one'));
  await fs.rm(at('b'));
  using known = await SnapshotFile.open(at('c'), { parents: [given] });
  assertSame(await known.read(), bytes);
});

function descriptorsOf(name: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === name;
    } catch {
      return false; // closed meanwhile
    }
  }).length;
}

test('it goes on with what is under way when it is closed, and refuses what comes after', async (t) => {
  const name = path.join(directoryFor(t), 'file');
  const bytes = Buffer.alloc(600 * PAGE, 1);
  await saveSnapshot(sourceOf(bytes), name);
  const file = await SnapshotFile.open(name);
  assert.equal(descriptorsOf(name), 1);
  const [reading, verifying] = [file.read(), file.verify()];
  file.close();
  file.close();
  assertSame(await reading, bytes);
  assert.equal((await verifying).pages, 600);
  assert.equal(descriptorsOf(name), 0);
  assert.equal(inspect(file), 'SnapshotFile { closed }');
  const closed = { code: 'ERR_UFFD_CLOSED' };
  await assert.rejects(file.read(), closed);
  await assert.rejects(file.verify(), closed);
  await assert.rejects(file.restore(bytes), closed);
  await assert.rejects(SnapshotFile.diff(file, file), closed);
  await assert.rejects(SnapshotFile.compact(file, `${name}2`), closed);
  await assert.rejects(saveSnapshot(sourceOf(bytes), `${name}2`, { parent: file }), closed);
  assert.throws(() => file.info(), closed);
  assert.ok(!existsSync(`${name}2`));
});

test('it closes the descriptors of files that are forgotten', async () => {
  await passScenario('snapshot-file', 'forgotten', { nodeArgs: ['--expose-gc'] });
});

test('it refuses what cannot be meant, by name', async (t) => {
  const name = path.join(directoryFor(t), 'file');
  const region = Region.allocate({ bytes: 2 * PAGE });
  using snapshot = Snapshot.take(region);
  const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
  const value = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };
  await assert.rejects(snapshot.save(1 as unknown as string), type);
  await assert.rejects(snapshot.save(''), value);
  await assert.rejects(snapshot.save('a\0b'), value);
  await assert.rejects(snapshot.save(name, { parent: {} as never }), type);
  await assert.rejects(snapshot.save(name, { onProgress: 1 as never }), type);
  await assert.rejects(snapshot.save(name, { signal: {} as AbortSignal }), type);
  await assert.rejects(snapshot.save(name, { parents: [] } as object), value);
  assert.throws(() => snapshot.stream({ parent: 5 as never }), type);
  await assert.rejects(SnapshotFile.open(name, { parents: name as never }), type);
  await assert.rejects(SnapshotFile.from(5 as never), type);
  await assert.rejects(SnapshotFile.from(['text'] as never), type);
  await assert.rejects(SnapshotFile.compact([], name), value);
  await assert.rejects(SnapshotFile.diff(name as never, name as never), type);
  assert.ok(!existsSync(name));
  await snapshot.save(name);
  using file = await SnapshotFile.open(name);
  await assert.rejects(file.read(2 * PAGE), { code: 'ERR_OUT_OF_RANGE' });
  await assert.rejects(file.read(0, 1, 1), { code: 'ERR_OUT_OF_RANGE' });
  await assert.rejects(file.restore({} as never), type);
  assert.throws(() => new (SnapshotFile as unknown as new () => unknown)(), {
    code: 'ERR_ILLEGAL_CONSTRUCTOR',
  });
  snapshot.close();
  await assert.rejects(snapshot.save(name), { code: 'ERR_UFFD_CLOSED' });
  assert.throws(() => snapshot.stream(), { code: 'ERR_UFFD_CLOSED' });
});

test('it saves and restores 5 GiB, or the most a buffer of this Node.js has, of which a few pages were written', async () => {
  await passScenario('snapshot-file', 'sparse', { timeoutMs: 60_000 });
});

test('it reads pages that lie behind 4 GiB in the file', async () => {
  await passScenario('snapshot-file', 'behindFourGigabytes', { timeoutMs: 60_000 });
});

test('it makes no page of shared memory resident that is to be zero', async () => {
  await passScenario('snapshot-file', 'holes', { timeoutMs: 30_000 });
});

test('its chain costs what changed, each link restores exactly, and compacted it is the same', async () => {
  await passScenario('snapshot-file', 'chain', { timeoutMs: 1_800_000 });
});

const ONE_THREAD = { UV_THREADPOOL_SIZE: '1' };

describe('its digests, by the pool and by whoever needs them', { concurrency: 2 }, () => {
  const holds = (what: string, name: string, options: object = {}): void => {
    test(what, async () => {
      await passScenario('digests', name, options);
    });
  };
  holds('are waited for without keeping the event loop', 'poolIsLate');
  holds('are of the bytes as they were', 'poolIsFirst', { env: ONE_THREAD });
  holds('do not wait for a pool that is busy', 'poolIsBusy', { env: ONE_THREAD });
  holds('do not keep a Worker for such a pool', 'workerEndsWhilePoolIsBusy', { env: ONE_THREAD });
  holds('do without a pool that cannot start', 'poolCannotStart');
  holds('are made to the end when the Worker has ended', 'workerEnds');
  holds('are made to the end when nobody wants them', 'forgotten', { nodeArgs: ['--expose-gc'] });
});
