// Snapshot files that are not what was written, and places where none can be: a named error, the target
// as it was, the memory untouched.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { filePlace } from '../lib/file-place.js';
import { Region, Snapshot, SnapshotFile } from '../lib/index.js';
import { PageDigests } from '../lib/page-digest.js';
import type { SnapshotSource } from '../lib/snapshot-encoder.js';
import { decodeHeader } from '../lib/snapshot-format.js';
import { openChain } from '../lib/snapshot-parents.js';
import { restoreChain } from '../lib/snapshot-restore.js';
import { saveSnapshot, streamSnapshot, type SaveOptions } from '../lib/snapshot-save.js';
import { PAGE, pageRun, seeded } from './scenarios/dirty-support.js';
import { passScenario } from './support/scenario.js';
import { cannotRun } from './support/skip.js';
import {
  assertOnly,
  assertSame,
  craft,
  directoryFor,
  sourceOf,
  writePages,
  type Crafted,
} from './support/snapshot-files.js';

const corrupt = { name: 'UffdError', code: 'ERR_UFFD_SNAPSHOT_CORRUPT' };

/** Memory of 16 pages that no damaged file may touch. */
function untouched(): { memory: Buffer; check: (what: string) => void } {
  const memory = Buffer.alloc(16 * PAGE, 5);
  const before = Buffer.from(memory);
  return { memory, check: (what) => assert.ok(memory.equals(before), `${what}: the memory is untouched`) };
}

async function restoreFrom(name: string, memory: Uint8Array, parents: string[] = []): Promise<void> {
  using file = await SnapshotFile.open(name, { parents });
  await file.restore(memory);
}

/** Runs a case for each of many numbers, some at a time. */
async function forEach(count: number, use: (i: number, lane: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (_: unknown, number: number): Promise<void> => {
    while (next < count) await use(next++, number);
  };
  await Promise.all(Array.from({ length: 4 }, lane));
}

function flipped(bytes: Buffer, at: number, bit = 0): Buffer {
  const copy = Buffer.from(bytes);
  copy[at]! ^= 1 << bit;
  return copy;
}

/** 16 pages, one of them in the file. */
async function smallFile(t: TestContext): Promise<{ directory: string; bytes: Buffer }> {
  const directory = directoryFor(t);
  const memory = Buffer.alloc(16 * PAGE);
  writePages(memory, [9], 1);
  await saveSnapshot(sourceOf(memory), path.join(directory, 'whole'));
  return { directory, bytes: readFileSync(path.join(directory, 'whole')) };
}

/** UFFD_TEST_SNAPSHOT_BYTES=all: every byte through the file system, which takes half a minute. */
const EVERY_BYTE = process.env['UFFD_TEST_SNAPSHOT_BYTES'] === 'all';

/** Where a byte of the file is tried: all of the index and the end, and by default a part of the others. */
function isTried(at: number, length: number): boolean {
  return EVERY_BYTE || at < 160 || at % 61 === 0 || at >= length - 512;
}

test('it finds any flipped bit, in every byte of a file', async (t) => {
  const { directory, bytes } = await smallFile(t);
  const random = seeded(67);
  const { memory, check } = untouched();
  const tried = pageRun(0, bytes.length).filter((at) => isTried(at, bytes.length));
  await forEach(tried.length, async (i, lane) => {
    const at = tried[i]!;
    const name = path.join(directory, `lane-${lane}`);
    await fs.writeFile(name, flipped(bytes, at, random(8)));
    await assert.rejects(restoreFrom(name, memory), corrupt, `byte ${at}`);
  });
  check('a flipped bit');
  // Every byte of header and page by the two functions that check them above.
  const [header, page] = [bytes.subarray(0, 4096), bytes.subarray(PAGE, 2 * PAGE)];
  const digest = await new PageDigests(page, PAGE).made();
  for (let at = 0; at < 4096; at++) {
    assert.throws(() => decodeHeader(flipped(header, at, random(8))), corrupt, `byte ${at} of the header`);
  }
  for (let at = 0; at < PAGE; at++) {
    const other = await new PageDigests(flipped(page, at, random(8)), PAGE).made();
    assert.ok(!other.equals(digest), `byte ${at} of the page`);
  }
});

test('it finds a file that ends too early, at any byte, or too late', async (t) => {
  const { directory, bytes } = await smallFile(t);
  const { memory, check } = untouched();
  const name = path.join(directory, 'short');
  for (const more of [Buffer.alloc(1), bytes]) {
    await fs.writeFile(name, Buffer.concat([bytes, more]));
    await assert.rejects(restoreFrom(name, memory), corrupt);
  }
  await fs.writeFile(name, bytes);
  for (let length = bytes.length - 1; length >= 0; length--) {
    if (!isTried(length, bytes.length)) continue;
    await fs.truncate(name, length);
    await assert.rejects(restoreFrom(name, memory), corrupt, `${length} bytes`);
  }
  check('a truncated file');
});

test('it finds damage in any file of a chain, and says in which', async (t) => {
  const directory = directoryFor(t);
  const names = ['full', 'first', 'second'].map((name) => path.join(directory, name));
  const source = Buffer.alloc(16 * PAGE);
  for (const [i, name] of names.entries()) {
    writePages(source, pageRun(i * 3, 5), i);
    await saveSnapshot(sourceOf(source), name, i === 0 ? {} : { parent: names[i - 1]! });
  }
  const random = seeded(1);
  for (const name of names) {
    const good = readFileSync(name);
    for (let round = 0; round < 10; round++) {
      const { memory, check } = untouched();
      const damaged = Buffer.from(good);
      damaged[random(good.length)]! ^= 1 << random(8);
      writeFileSync(name, damaged);
      const error = { ...corrupt, path: name };
      await assert.rejects(
        (async () => {
          using file = await SnapshotFile.open(names[2]!);
          await file.verify();
        })(),
        error,
      );
      const one = path.join(directory, 'one');
      await restoreFrom(names[2]!, memory).then(
        // Only a page that a newer file replaces may be damaged without harm.
        () => assertSame(memory, source),
        (refused: unknown) => {
          check(name);
          assert.equal((refused as { code?: string }).code, corrupt.code);
          return assert.rejects(SnapshotFile.compact(names[2]!, one), error);
        },
      );
      await fs.rm(one, { force: true });
    }
    writeFileSync(name, good);
  }
  assertOnly(directory, 'full', 'first', 'second');
});

const OF_A_PARENT: Crafted = { header: { parent: { digest: Buffer.alloc(32, 1), name: '' } } };

const IMPOSSIBLE: [what: string, parts: Crafted, code?: string][] = [
  ['2 ** 53 - 1 memories', { patchHeader: (bytes) => bytes.writeUInt32LE(0xffffffff, 16) }],
  ['no memory', { patchHeader: (bytes) => bytes.writeUInt32LE(0, 16) }],
  ['a page size of 0', { patchHeader: (bytes) => bytes.writeUInt32LE(0, 12) }],
  ['a page size of 4 GiB - 1', { patchHeader: (bytes) => bytes.writeUInt32LE(0xffffffff, 12) }],
  ['a page size that is no power of two', { patchHeader: (bytes) => bytes.writeUInt32LE(12288, 12) }],
  ['an unknown flag', { patchHeader: (bytes) => bytes.writeUInt32LE(2, 20) }],
  ['a name longer than names are', { patchHeader: (bytes) => bytes.writeUInt32LE(4000, 64) }],
  ['a name without a parent', { patchHeader: (bytes) => bytes.write('a', 72) }],
  ['a byte where none is', { patchHeader: (bytes) => bytes.writeUInt32LE(1, 2000) }],
  ['version 0', { patchHeader: (bytes) => bytes.writeUInt32LE(0, 8) }],
  ['2 ** 40 data pages', { trailer: { dataPages: 2 ** 40 } }],
  ['2 ** 53 - 1 data pages', { trailer: { dataPages: 2 ** 53 - 1 } }],
  ['an index of 2 ** 53 - 1 bytes', { trailer: { indexBytes: 2 ** 53 - 1 } }],
  ['an index of no bytes', { trailer: { indexBytes: 0 } }],
  ['2 ** 48 runs', { patchIndex: (bytes) => bytes.writeUInt32LE(0x10000, 12) }],
  ['a count above 2 ** 53', { patchIndex: (bytes) => bytes.writeUInt32LE(0xffffffff, 12) }],
  ['a memory above 2 ** 53 bytes', { patchIndex: (bytes) => bytes.writeUInt32LE(0xffffffff, 4) }],
  ['a run of no pages', { data: [[0, 0]] }],
  ['a run behind the end', { data: [[16, 1]] }],
  ['a run over the end', { data: [[15, 2]], pages: 2 }],
  ['a run that begins near 2 ** 53', { data: [[2 ** 53 - 2, 1]] }],
  ['a run that is near 2 ** 53 long', { data: [[0, 2 ** 53 - 1]] }],
  ['runs that overlap', { data: [[0, 2], [1, 1]], pages: 3 }], // prettier-ignore
  ['runs that descend', { data: [[4, 1], [1, 1]], pages: 2 }], // prettier-ignore
  ['runs that touch', { data: [[0, 1], [1, 1]], pages: 2 }], // prettier-ignore
  ['a run of zeros in a file without parent', { zero: [[3, 1]] }],
  ['a page that is data and zero', { ...OF_A_PARENT, zero: [[0, 1]] }],
  ['more pages in runs than in the file', { data: [[0, 2]] }],
  ['fewer pages in runs than in the file', { data: [[0, 1]], pages: 2 }],
  ['a run of zeros behind the end', { ...OF_A_PARENT, zero: [[20, 1]] }],
  ['the digest of another header', { trailer: { headerDigest: Buffer.alloc(32) } }],
  ['the digest of another index', { trailer: { indexDigest: Buffer.alloc(32) } }],
  ['version 2', { patchHeader: (bytes) => bytes.writeUInt32LE(2, 8) }, 'ERR_UFFD_SNAPSHOT_VERSION'],
];

test('it refuses what cannot be although every digest is right, and allocates nothing for it', async (t) => {
  const name = path.join(directoryFor(t), 'crafted');
  const { memory, check } = untouched();
  writeFileSync(name, craft());
  await restoreFrom(name, Buffer.alloc(16 * PAGE));
  const before = process.memoryUsage().rss;
  for (const [what, parts, code = corrupt.code] of IMPOSSIBLE) {
    writeFileSync(name, craft(parts));
    await assert.rejects(restoreFrom(name, memory), { name: 'UffdError', code }, what);
    check(what);
  }
  assert.ok(process.memoryUsage().rss - before < 64 << 20);
});

test('verify() finds pages that a file with this content would not have', async (t) => {
  const name = path.join(directoryFor(t), 'crafted');
  const verify = async (parts: Crafted): Promise<unknown> => {
    writeFileSync(name, craft(parts));
    using file = await SnapshotFile.open(name);
    return await file.verify();
  };
  const lastPage: Crafted = { data: [[15, 1]], byteLength: 16 * PAGE - 100 };
  const endsInTime = Buffer.alloc(PAGE, 7).fill(0, PAGE - 100);
  await verify({});
  await verify({ ...lastPage, content: endsInTime });
  await assert.rejects(verify({ content: Buffer.alloc(PAGE) }), corrupt, 'a page of zeros');
  await assert.rejects(verify(lastPage), corrupt, 'bytes behind the end of the memory');
});

test('it refuses files without content', async (t) => {
  const directory = directoryFor(t);
  for (const [name, bytes] of [
    ['empty', Buffer.alloc(0)],
    ['zeros', Buffer.alloc(20_000)],
    ['text', Buffer.from('not a snapshot\n'.repeat(1000))],
  ] as const) {
    writeFileSync(path.join(directory, name), bytes);
    await assert.rejects(SnapshotFile.open(path.join(directory, name)), corrupt);
    await assert.rejects(SnapshotFile.infoOf(path.join(directory, name)), corrupt);
    await assert.rejects(SnapshotFile.from(Readable.from([bytes])), corrupt);
  }
  await assert.rejects(SnapshotFile.open(directory), { code: 'EISDIR' });
  await assert.rejects(SnapshotFile.open('/dev/zero'), { code: 'EINVAL' });
  await assert.rejects(SnapshotFile.open(path.join(directory, 'none')), {
    name: 'UffdError',
    code: 'ENOENT',
    path: path.join(directory, 'none'),
  });
  assert.equal(spawnSync('mkfifo', [path.join(directory, 'fifo')]).status, 0);
  await assert.rejects(SnapshotFile.open(path.join(directory, 'fifo')), { code: 'EINVAL' });
});

test('it refuses a wrong parent, a missing link, other pages, and memory of another length', async (t) => {
  const directory = directoryFor(t);
  const at = (name: string): string => path.join(directory, name);
  const { memory, check } = untouched();
  const source = Buffer.alloc(16 * PAGE, 1);
  await saveSnapshot(sourceOf(source), at('a'));
  source[0] = 2;
  await saveSnapshot(sourceOf(source), at('b'), { parent: at('a') });
  source[0] = 3;
  await saveSnapshot(sourceOf(source), at('c'), { parent: at('b') });
  const mismatch = { name: 'UffdError', code: 'ERR_UFFD_SNAPSHOT_PARENT_MISMATCH' };
  const missing = { name: 'UffdError', code: 'ERR_UFFD_SNAPSHOT_PARENT_MISSING' };
  await fs.rename(at('a'), at('away'));
  await assert.rejects(restoreFrom(at('c'), memory), missing);
  await assert.rejects(restoreFrom(at('b'), memory, [at('b')]), mismatch, 'it is not its own parent');
  await saveSnapshot(sourceOf(source), at('other'));
  await assert.rejects(restoreFrom(at('b'), memory, [at('other')]), mismatch);
  await saveSnapshot(sourceOf(source), at('a'));
  await assert.rejects(restoreFrom(at('c'), memory), mismatch, 'another file under its name');
  await fs.rm(at('b'));
  await assert.rejects(restoreFrom(at('c'), memory, [at('away')]), mismatch);
  await assert.rejects(restoreFrom(at('c'), memory), missing);
  await assert.rejects(SnapshotFile.compact([at('away'), at('c')], at('one')), mismatch);

  await saveSnapshot(sourceOf(source, source), at('two'));
  await assert.rejects(saveSnapshot(sourceOf(source), at('d'), { parent: at('two') }), mismatch);
  const large: SnapshotSource = { ...sourceOf(source), pageSize: 4 * PAGE };
  await saveSnapshot(large, at('large'));
  assert.equal((await SnapshotFile.infoOf(at('large'))).pageSize, 4 * PAGE);
  await assert.rejects(saveSnapshot(sourceOf(source), at('d'), { parent: at('large') }), mismatch);
  const pages = { name: 'UffdError', code: 'ERR_UFFD_SNAPSHOT_PAGE_SIZE' };
  await assert.rejects(restoreFrom(at('large'), memory), pages);
  {
    using a = await SnapshotFile.open(at('other'));
    using b = await SnapshotFile.open(at('large'));
    await b.verify();
    assertSame(await b.read(), source);
    await assert.rejects(SnapshotFile.diff(a, b), pages);
    const length = { name: 'UffdError', code: 'ERR_UFFD_SNAPSHOT_LENGTH' };
    for (const bytes of [PAGE, 15 * PAGE, 16 * PAGE - 1, 17 * PAGE]) {
      const region = Buffer.alloc(bytes, 5);
      await assert.rejects(a.restore(region), length);
      assert.ok(region.every((byte) => byte === 5));
    }
  }
  check('all of these');
});

test('a name out of a file drives no terminal that shows the error', async (t) => {
  const directory = directoryFor(t);
  const at = (name: string): string => path.join(directory, name);
  const [mean, harmless] = ['\u001b[31mred\u0007\n\u009b2J', '\ufffd[31mred\ufffd\ufffd\ufffd2J'];
  const source = Buffer.alloc(16 * PAGE, 1);
  await saveSnapshot(sourceOf(source), at(mean));
  source[0] = 2;
  await saveSnapshot(sourceOf(source), at('child'), { parent: at(mean) });
  const rejects = async (code: string): Promise<void> => {
    await assert.rejects(SnapshotFile.open(at('child')), (error: Error & { code: string }) => {
      assert.equal(error.code, code);
      assert.ok(error.message.includes(harmless), error.message);
      assert.doesNotMatch(error.message, /[\u0000-\u001f\u007f-\u009f]/);
      return true;
    });
  };
  await saveSnapshot(sourceOf(source), at(mean));
  await rejects('ERR_UFFD_SNAPSHOT_PARENT_MISMATCH');
  await fs.writeFile(at(mean), 'no snapshot');
  await rejects('ERR_UFFD_SNAPSHOT_CORRUPT');
  await fs.rm(at(mean));
  await fs.mkdir(at(mean));
  await rejects('EISDIR');
  await fs.rmdir(at(mean));
  symlinkSync(mean, at(mean));
  await rejects('ELOOP');
  await fs.rm(at(mean));
  await rejects('ERR_UFFD_SNAPSHOT_PARENT_MISSING');
});

test('it leaves the memory as it is when a page is damaged that is not held', async (t) => {
  const name = path.join(directoryFor(t), 'file');
  const memory = Buffer.alloc(300 * PAGE);
  writePages(memory, pageRun(0, 300), 1);
  const expected = Buffer.from(memory);
  await saveSnapshot(sourceOf(memory), name);
  memory.fill(5);
  const untouchedMemory = Buffer.from(memory);
  const good = readFileSync(name);
  const heldPages = 8 * PAGE;
  const restore = async (onProgress?: () => void): Promise<unknown> => {
    const chain = await openChain(filePlace(name));
    try {
      return await restoreChain(chain, [Region.from(memory)], { onProgress }, heldPages);
    } finally {
      chain.release();
    }
  };
  writeFileSync(name, flipped(good, PAGE * 290));
  await assert.rejects(restore(), corrupt);
  assertSame(memory, untouchedMemory);
  writeFileSync(name, good);
  assert.deepEqual(await restore(), { pages: 300, bytes: 300 * PAGE });
  assertSame(memory, expected);
  // Damage that comes between the two times it is read is not passed off as a restored memory.
  const fd = openSync(name, 'r+');
  t.after(() => closeSync(fd));
  let steps = 0;
  memory.fill(5);
  const damage = (): void => {
    if (++steps === Math.ceil(300 / 256)) writeSync(fd, Buffer.of(good[PAGE * 290]! ^ 1), 0, 1, PAGE * 290);
  };
  await assert.rejects(restore(damage), { ...corrupt, message: /partly written/ });
});

/** Fails in each way, and finds the target as it was and no other file. */
async function failsWithoutTrace(
  directory: string,
  name: string,
  source: SnapshotSource,
  options: SaveOptions,
  error: object,
): Promise<void> {
  const before = readFileSync(path.join(directory, name));
  await assert.rejects(saveSnapshot(source, path.join(directory, name), options), error);
  assert.ok(readFileSync(path.join(directory, name)).equals(before));
  assertOnly(directory, name);
}

test('it leaves the target as it was when a save is aborted or fails, at any moment', async (t) => {
  const directory = directoryFor(t);
  const region = Region.allocate({ bytes: 16 << 20 });
  region.bytes.fill(1);
  using snapshot = Snapshot.take(region);
  await snapshot.save(path.join(directory, 'file'));
  region.bytes.fill(2);
  const source = sourceOf(region.bytes);
  const aborted = { name: 'AbortError', code: 'ABORT_ERR' };
  await failsWithoutTrace(directory, 'file', source, { signal: AbortSignal.abort() }, aborted);
  for (let step = 1; step < 8; step++) {
    let steps = 0;
    const controller = new AbortController();
    const onProgress = (): void => {
      if (++steps === step) controller.abort(new Error('enough'));
    };
    await failsWithoutTrace(directory, 'file', source, { signal: controller.signal, onProgress }, aborted);
    const thrower = (): void => {
      if (++steps === 2 * step) throw new TypeError('mine');
    };
    await failsWithoutTrace(directory, 'file', source, { onProgress: thrower }, { message: 'mine' });
  }
  const read = (): Uint8Array => {
    throw new Error('cannot be read');
  };
  await failsWithoutTrace(directory, 'file', { ...source, read }, {}, { message: 'cannot be read' });
  const closing = Snapshot.take(region);
  await assert.rejects(closing.save(path.join(directory, 'file'), { onProgress: () => closing.close() }), {
    code: 'ERR_UFFD_CLOSED',
  });
  assertOnly(directory, 'file');
  const controller = new AbortController();
  const stream = streamSnapshot(source, { signal: controller.signal });
  stream.once('data', () => controller.abort());
  await assert.rejects(stream.toArray(), aborted);
});

test('it leaves the target and the memory as they were when reading is aborted or the stream is damaged', async (t) => {
  const directory = directoryFor(t);
  const { memory, check } = untouched();
  const target = path.join(directory, 'file');
  const source = Buffer.alloc(16 * PAGE, 1);
  await saveSnapshot(sourceOf(source), target);
  const before = readFileSync(target);
  const aborted = { name: 'AbortError', code: 'ABORT_ERR' };
  using file = await SnapshotFile.open(target);
  const signal = AbortSignal.abort();
  await assert.rejects(file.restore(memory, { signal }), aborted);
  await assert.rejects(file.verify({ signal }), aborted);
  await assert.rejects(SnapshotFile.compact(file, `${target}2`, { signal }), aborted);
  const controller = new AbortController();
  const silent = new Readable({ read: () => undefined });
  const waiting = SnapshotFile.from(silent, { path: target, signal: controller.signal });
  setImmediate(() => controller.abort());
  await assert.rejects(waiting, aborted);
  source[5] = 9;
  const bytes = Buffer.concat(await streamSnapshot(sourceOf(source)).toArray());
  for (const damaged of [
    bytes.subarray(0, -1),
    bytes.subarray(0, 5000),
    bytes.subarray(0, 0),
    flipped(bytes, 5000),
  ]) {
    await assert.rejects(SnapshotFile.from(Readable.from([damaged]), { path: target }), corrupt);
  }
  async function* broken(): AsyncGenerator<Buffer> {
    yield bytes.subarray(0, 5000);
    await Promise.reject(new Error('the network went away'));
  }
  await assert.rejects(SnapshotFile.from(broken(), { path: target }), { message: 'the network went away' });
  await assert.rejects(SnapshotFile.from(broken()), { message: 'the network went away' });
  assert.ok(readFileSync(target).equals(before));
  assertOnly(directory, 'file');
  check('all of these');
});

test('it refuses a target that is no regular file, is gone, or is a file it needs', async (t) => {
  const directory = directoryFor(t);
  const at = (name: string): string => path.join(directory, name);
  const source = sourceOf(Buffer.alloc(PAGE, 1));
  mkdirSync(at('directory'));
  assert.equal(spawnSync('mkfifo', [at('fifo')]).status, 0);
  await saveSnapshot(source, at('a'));
  await saveSnapshot(sourceOf(Buffer.alloc(PAGE, 2)), at('b'), { parent: at('a') });
  const names = ['a', 'b', 'directory', 'fifo'];
  for (const [target, code] of [
    [at('directory'), 'EISDIR'],
    [at('fifo'), 'EINVAL'],
    ['/dev/null', 'EINVAL'],
    [at('none/file'), 'ENOENT'],
    [at('a/file'), 'ENOTDIR'],
    [at('x'.repeat(256)), 'ENAMETOOLONG'],
  ] as const) {
    await assert.rejects(saveSnapshot(source, target), { name: 'UffdError', code, path: target });
    assertOnly(directory, ...names);
  }
  for (const name of ['a', 'b']) {
    await assert.rejects(saveSnapshot(source, at(name), { parent: at('b') }), {
      code: 'ERR_INVALID_ARG_VALUE',
    });
  }
  assertOnly(directory, ...names);
  (await SnapshotFile.open(at('b'))).close();
});

test('it leaves the target as it was where an ordinary user may not write', async (t) => {
  const directory = directoryFor(t);
  await saveSnapshot(sourceOf(Buffer.alloc(PAGE, 1)), path.join(directory, 'file'));
  chmodSync(path.join(directory, 'file'), 0o666);
  chmodSync(directory, 0o555);
  await passScenario('snapshot-file', 'readOnlyDirectory', {
    args: [directory],
    asNobody: process.getuid!() === 0,
  });
  assertOnly(directory, 'file');
});

test('it leaves the target as it was when the disk is full in the middle', async (t) => {
  // In a mount namespace of its own: whatever happens, the mount goes with the process.
  const probe = spawnSync('unshare', ['--mount', 'true']);
  if (probe.status !== 0) {
    cannotRun(t, 'mounting a small tmpfs needs root and unshare(1) of util-linux');
    return;
  }
  await passScenario('snapshot-file-full', 'fullDisk', { timeoutMs: 30_000 });
});
