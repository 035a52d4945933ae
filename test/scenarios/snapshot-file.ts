import assert from 'node:assert/strict';
import { constants } from 'node:buffer';
import { createHash } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
  writeFileSync,
} from 'node:fs';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Region, Snapshot, SnapshotFile, type SnapshotOptions } from '../../lib/index.js';
import { PageRuns } from '../../lib/page-runs.js';
import { encodeHeader, encodeTrailer, headerDigestOf, sha256 } from '../../lib/snapshot-format.js';
import { encodeIndex } from '../../lib/snapshot-index.js';
import { saveSnapshot } from '../../lib/snapshot-save.js';
import { assertSame, sourceOf, writePages } from '../support/snapshot-files.js';
import { releaseSweep, takeAndHold } from './copy-on-write-support.js';
import { PAGE, pagesOf, seeded, touch } from './dirty-support.js';

const MIB = 2 ** 20;

async function inDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'uffd-snapshot-'));
  try {
    await use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export async function forgotten(): Promise<void> {
  await inDirectory(async (directory) => {
    const name = path.join(directory, 'file');
    await saveSnapshot(sourceOf(Buffer.alloc(PAGE, 1)), name);
    const descriptors = async (): Promise<number> => (await fs.readdir('/proc/self/fd')).length;
    const before = await descriptors();
    const held: SnapshotFile[] = [];
    for (let i = 0; i < 20; i++) held.push(await SnapshotFile.open(name));
    assert.equal(await descriptors(), before + held.length);
    held.length = 0;
    for (let round = 0; round < 10 && (await descriptors()) > before; round++) {
      global.gc!();
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(await descriptors(), before);
  });
}

function residentBytes(): number {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
}

export async function sparse(): Promise<void> {
  await inDirectory(async (directory) => {
    const region = Region.allocate({ bytes: Math.min(5 * 1024 * MIB, constants.MAX_LENGTH) });
    const end = region.byteLength / PAGE;
    const pages = [0, 1, 2 ** 19 - 1, 2 ** 19, end - 10, end - 1];
    for (const page of pages) touch(region.bytes, page, 1);
    const zeros = Buffer.alloc(MIB);
    // Not a snapshot of it: reading all of its holes is not what is shown here.
    const source = {
      byteLengths: [region.byteLength],
      pageSize: PAGE,
      read: (offset: number, length: number): Uint8Array => {
        const has = pages.some((page) => page * PAGE >= offset && page * PAGE < offset + length);
        return has ? region.bytes.slice(offset, offset + length) : zeros.subarray(0, length);
      },
    };
    const name = path.join(directory, 'sparse');
    assert.equal((await saveSnapshot(source, name)).pages, pages.length);
    assert.ok(statSync(name).size < (pages.length + 2) * PAGE);
    const before = residentBytes();
    touch(region.bytes, end - 10, 7);
    touch(region.bytes, end - 5, 7);
    using file = await SnapshotFile.open(name);
    assert.equal((await file.restore(region)).pages, 2);
    assert.equal(region.bytes[(end - 10) * PAGE], 1);
    assert.equal(region.bytes[(end - 5) * PAGE], 0);
    assert.equal((await file.read(region.byteLength - PAGE, 1))[0], 1);
    const grew = residentBytes() - before;
    assert.ok(grew < 64 * MIB, `restore() made ${grew} bytes resident`);
    touch(region.bytes, 2 ** 19, 3);
    const other = `${name}2`;
    assert.equal((await saveSnapshot(source, other, { parent: name })).pages, 1);
    using second = await SnapshotFile.open(other);
    assert.deepEqual(pagesOf(await SnapshotFile.diff(file, second)), [2 ** 19]);
  });
}

/** Pages of zeros, which a save leaves out, make a file that is large and takes no disk. */
export async function behindFourGigabytes(): Promise<void> {
  await inDirectory(async (directory) => {
    const name = path.join(directory, 'large');
    const count = 2 ** 20 + 5;
    const last = Buffer.alloc(PAGE, 9);
    const header = encodeHeader({ pageSize: PAGE, memoryCount: 1, parent: undefined });
    const data = new PageRuns();
    data.add(0, count);
    const byteLength = count * PAGE;
    const table = encodeIndex([{ byteLength, pages: count, data, zero: new PageRuns(), dataIndex: 0 }]);
    const digests = Buffer.alloc(count * 32, sha256(Buffer.alloc(PAGE)));
    sha256(last).copy(digests, digests.length - 32);
    const index = Buffer.concat([table, digests]);
    const fd = openSync(name, 'wx');
    writeSync(fd, header);
    writeSync(fd, last, 0, PAGE, PAGE * count);
    writeSync(fd, index, 0, index.length, PAGE * (count + 1));
    const indexDigest = createHash('sha256').update(index).digest();
    const headerDigest = headerDigestOf(header);
    const trailer = encodeTrailer({ dataPages: count, indexBytes: index.length, headerDigest, indexDigest });
    writeSync(fd, trailer, 0, trailer.length, PAGE * (count + 1) + index.length);
    closeSync(fd);
    using file = await SnapshotFile.open(name);
    assert.deepEqual([...(await file.read(byteLength - PAGE - 1, 2))], [0, 9]);
    const again = openSync(name, 'r+');
    writeSync(again, Buffer.of(8), 0, 1, PAGE * (count + 1) - 1);
    ftruncateSync(again, statSync(name).size);
    closeSync(again);
    await assert.rejects(file.read(byteLength - 1, 1), { code: 'ERR_UFFD_SNAPSHOT_CORRUPT' });
  });
}

export async function holes(): Promise<void> {
  await inDirectory(async (directory) => {
    const name = path.join(directory, 'file');
    const region = Region.allocate({ bytes: 256 * MIB, backing: 'memfd', shared: true });
    touch(region.bytes, 5, 1);
    const zero = Buffer.alloc(MIB);
    const source = {
      byteLengths: [region.byteLength],
      pageSize: PAGE,
      read: (offset: number, length: number): Uint8Array =>
        offset === 0 ? region.bytes.slice(0, length) : zero.subarray(0, length),
    };
    await saveSnapshot(source, name);
    touch(region.bytes, 500, 1);
    const shared = (): number =>
      Number(/^RssShmem:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
    const before = shared();
    using file = await SnapshotFile.open(name);
    assert.deepEqual(await file.restore(region), { pages: 1, bytes: PAGE });
    assert.ok(shared() - before < 4 * MIB, `restore() made ${shared() - before} bytes resident`);
    assert.equal(region.bytes[500 * PAGE], 0);
  });
}

/** A difference from a file of an older snapshot that is still there looks at what was written, and at no more. */
export async function costOfDifference(mode: 'copy' | 'copy-on-write'): Promise<void> {
  await inDirectory(async (directory) => {
    const region = Region.allocate({ bytes: 16 * MIB });
    const wasm = new WebAssembly.Memory({ initial: 16 });
    const memories = [region, wasm];
    const views = [region.bytes, new Uint8Array(wasm.buffer)];
    for (const bytes of views) writePages(bytes, Array(bytes.length / PAGE).keys(), 1);
    const at = (name: string): string => path.join(directory, name);
    const first = Snapshot.take(memories, { mode });
    await first.save(at('full'));
    await first.ready;
    writePages(region.bytes, [3, 4, 5, 1000], 2);
    region.bytes.fill(0, 7 * PAGE, 8 * PAGE);
    region.discard(2000 * PAGE, PAGE);
    // As it was.
    region.bytes[9 * PAGE]! ^= 0;
    writePages(views[1]!, [2], 3);

    let looked = 0;
    const takeAndSave = async (name: string, parent: string, options?: SnapshotOptions): Promise<string> => {
      const snapshot = Snapshot.take(memories, { mode: 'copy', ...options });
      const read = snapshot.readInto.bind(snapshot);
      looked = 0;
      snapshot.readInto = (into, offset, memory) => {
        looked += into.length;
        return read(into, offset, memory);
      };
      const { digest, pages, zeroPages } = await snapshot.save(at(name), { parent: at(parent) });
      assert.deepEqual([pages, zeroPages], [5, 2]);
      snapshot.close();
      return digest;
    };
    const digest = await takeAndSave('difference', 'full');
    assert.ok(looked <= 8 * PAGE, `it looked at ${looked / PAGE} pages`);
    const all = views.reduce((sum, bytes) => sum + bytes.length, 0);
    // By digests of all of it, when the older one is gone: the same file.
    first.close();
    assert.equal(await takeAndSave('again', 'full'), digest);
    assert.equal(looked, all);
    using file = await SnapshotFile.open(at('difference'));
    for (const [i, bytes] of views.entries()) assertSame(await file.read(0, undefined, i), bytes);
  });
}

/** What is saved later, grew, or is of other memory has no such short cut, and is right. */
export async function noShortCut(): Promise<void> {
  await inDirectory(async (directory) => {
    const at = (name: string): string => path.join(directory, name);
    const memory = new WebAssembly.Memory({ initial: 2, maximum: 4 });
    const bytes = (): Uint8Array => new Uint8Array(memory.buffer);
    writePages(bytes(), [1, 2, 3], 1);
    using first = Snapshot.take(memory);
    await first.save(at('first'));
    memory.grow(1);
    writePages(bytes(), [2, 40], 2);
    using second = Snapshot.take(memory);
    await second.save(at('second'), { parent: at('first') });
    writePages(bytes(), [5], 3);
    using third = Snapshot.take(memory);
    await third.save(at('third'), { parent: at('first') });
    // Put back: as the first, but for what grew.
    first.restore();
    writePages(bytes(), [6], 4);
    using fourth = Snapshot.take(memory);
    await fourth.save(at('fourth'), { parent: at('third') });
    for (const [name, snapshot] of Object.entries({ first, second, third, fourth })) {
      using file = await SnapshotFile.open(at(name));
      assertSame(await file.read(), Buffer.from(snapshot.read()), name);
    }
  });
}

/** Memory that changes behind the back of its mapping: the difference of an open snapshot's file has it all. */
export async function changedElsewhere(how: string): Promise<void> {
  await inDirectory(async (directory) => {
    const at = (name: string): string => path.join(directory, name);
    writeFileSync(at('bytes'), Buffer.alloc(16 * PAGE, 1));
    const region =
      how === 'file'
        ? Region.allocate({ backing: 'file', path: at('bytes') })
        : Region.allocate({ bytes: 16 * PAGE, backing: 'memfd', shared: how.startsWith('posted') });
    if (how !== 'file') region.bytes.fill(1);
    // What another thread gets of it: another object.
    const memory = how.startsWith('posted') ? structuredClone(region.buffer) : region;
    using first = Snapshot.take(memory, { mode: 'copy' });
    await first.save(at('first'));
    if (how === 'file') {
      const fd = openSync(at('bytes'), 'r+');
      writeSync(fd, Buffer.alloc(PAGE, 77), 0, PAGE, 5 * PAGE);
      closeSync(fd);
    } else {
      const alias = region.alias();
      alias.bytes[5 * PAGE] = 77;
      if (how === 'closed alias') alias.close();
    }
    using second = Snapshot.take(memory, { mode: 'copy' });
    assert.equal(second.read(5 * PAGE, 1)[0], 77);
    await second.save(at('second'), { parent: at('first') });
    using file = await SnapshotFile.open(at('second'));
    assertSame(await file.read(), Buffer.from(second.read()));
  });
}

/** Size in MiB and number of differences; UFFD_TEST_SNAPSHOT_CHAIN="256,100" is the full size. */
export async function chain(): Promise<void> {
  const [size, links] = (process.env['UFFD_TEST_SNAPSHOT_CHAIN'] ?? '4,8').split(',').map(Number);
  const share = 0.01;
  await inDirectory(async (directory) => {
    const at = (link: number): string => path.join(directory, `link-${link}`);
    const region = Region.allocate({ bytes: size! * MIB });
    const pages = region.byteLength / PAGE;
    const random = seeded(3);
    for (let page = 0; page < pages; page++) writePages(region.bytes, [page], page + 1);
    const digests: string[] = [];
    const digestNow = (): string => createHash('sha256').update(region.bytes).digest('hex');
    let changed = pages;
    let written = 0;
    for (let link = 0; link <= links!; link++) {
      const these = new Set<number>();
      if (link > 0) while (these.size < Math.ceil(pages * share)) these.add(random(pages));
      for (const page of these) writePages(region.bytes, [page], link * pages + page);
      changed += these.size;
      using snapshot = Snapshot.take(region);
      const stats = await snapshot.save(at(link), link === 0 ? {} : { parent: at(link - 1) });
      written += stats.bytes;
      digests.push(digestNow());
    }
    const more = written / (changed * PAGE) - 1;
    console.log(
      `${links! + 1} files: ${written} bytes for ${changed * PAGE} changed, ${(more * 100).toFixed(2)} % more`,
    );
    assert.ok(more < 0.05, `${written} bytes for ${changed * PAGE} bytes changed`);
    for (let link = 0; link <= links!; link++) {
      using file = await SnapshotFile.open(at(link));
      await file.restore(region);
      assert.equal(digestNow(), digests[link], `link ${link}`);
    }
    const one = path.join(directory, 'compact');
    await SnapshotFile.compact(at(links!), one);
    region.bytes.fill(1);
    using compacted = await SnapshotFile.open(one);
    assert.equal(compacted.info().chain.length, 1);
    await compacted.restore(region);
    assert.equal(digestNow(), digests[links!], 'compacted');
    using snapshot = Snapshot.take(region);
    const whole = await snapshot.save(path.join(directory, 'whole'));
    assert.equal(compacted.digest, whole.digest);
    writeFileSync(path.join(directory, 'done'), '');
  });
}

export async function readOnlyDirectory(directory: string): Promise<void> {
  const target = path.join(directory, 'file');
  const before = readFileSync(target);
  await assert.rejects(saveSnapshot(sourceOf(Buffer.alloc(PAGE, 2)), target), {
    name: 'UffdError',
    code: 'EACCES',
    path: target,
  });
  assert.ok(readFileSync(target).equals(before));
}

/** While the background copies a page a second, and the memory goes on changing. */
export async function beforeReady(resolver: 'loop' | 'in-thread'): Promise<void> {
  await inDirectory(async (directory) => {
    const region = Region.allocate({ bytes: 4 * MIB });
    writePages(
      region.bytes,
      Array.from({ length: 600 }, (_, page) => page),
      1,
    );
    const before = Buffer.from(region.bytes);
    const snapshot = takeAndHold(region, resolver);
    let isReady = false;
    snapshot.ready.then(
      () => (isReady = true),
      () => undefined,
    );
    region.bytes.fill(9, 0, 100 * PAGE);
    const saving = snapshot.save(path.join(directory, 'file'));
    region.bytes.fill(8, 50 * PAGE, 650 * PAGE);
    const onProgress = (): void => void region.bytes.fill(7, 300 * PAGE, 700 * PAGE);
    await snapshot.save(path.join(directory, 'again'), { onProgress });
    await saving;
    assert.ok(!isReady, 'it was saved before it was captured');
    for (const name of ['file', 'again']) {
      using file = await SnapshotFile.open(path.join(directory, name));
      assert.ok(before.equals(await file.read()), name);
      // Into memory that the snapshot still has armed.
      await file.restore(region);
      assert.ok(before.equals(region.bytes), `restored from ${name}`);
      region.bytes.fill(6);
    }
    assert.ok(before.equals(snapshot.read()));
    releaseSweep();
    snapshot.close();
  });
}
