// Every kind of memory: anonymous, memfd, huge pages and files, private and shared.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { constants } from 'node:buffer';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { binding } from '../lib/binding.js';
import { Region } from '../lib/index.js';
import { KINDS } from './scenarios/backing-kinds.js';
import { withHugePages } from './support/huge-pages.js';
import { passScenario, type ScenarioOptions } from './support/scenario.js';

const { pageSize } = binding();
const BUFFERS = ['private', 'shared'] as const;

async function passWithHugePages(
  name: string,
  scenario: string,
  options: ScenarioOptions & { pages?: number; alone?: boolean } = {},
): Promise<void> {
  const { pages = 40, alone = false, ...rest } = options;
  if (KINDS[name]!.hugetlb || alone) {
    await withHugePages(pages, () => passScenario('backings', scenario, rest), { alone });
  } else {
    await passScenario('backings', scenario, rest);
  }
}

for (const name of Object.keys(KINDS)) {
  for (const buffer of BUFFERS) {
    const what = `${name} memory${buffer === 'shared' ? ' in a SharedArrayBuffer' : ''}`;
    const args = [name, buffer];

    test(`it allocates ${what} as the kernel lists it`, async () => {
      await passWithHugePages(name, 'isWhatTheKernelLists', { args });
    });

    test(`it gives pages of ${what} back`, async () => {
      await passWithHugePages(name, 'discards', { args });
    });

    test(`it registers ${what} in the modes the kernel allows, fills, arms and discards it`, async () => {
      await passWithHugePages(name, 'registers', { args });
    });

    test(`it tracks ${what}, snapshots and restores it`, async () => {
      await passWithHugePages(name, 'isTrackedAndRestored', { args, timeoutMs: 30_000 });
    });

    test(`it leaves forgotten ${what} to the garbage collector`, async () => {
      await passWithHugePages(name, 'collectorReleases', {
        args,
        nodeArgs: ['--expose-gc'],
        pages: 80,
        timeoutMs: 30_000,
      });
    });
  }

  test(`it gives the pages of ${name} memory back on close`, async () => {
    await passWithHugePages(name, 'closeGivesPagesBack', { args: [name], alone: KINDS[name]!.hugetlb });
  });

  test(`it may be closed while reads into ${name} memory are under way`, async () => {
    await passWithHugePages(name, 'closesDuringAsyncWork', { args: [name] });
  });

  if (!KINDS[name]!.aliases) continue;

  for (const buffer of BUFFERS) {
    test(`it maps ${name} memory a second time${buffer === 'shared' ? ', in a SharedArrayBuffer' : ''}`, async () => {
      await passWithHugePages(name, 'isAliased', { args: [name, buffer] });
    });
  }

  test(`it tracks ${name} memory through whichever of its mappings it is written (B7)`, async () => {
    await passWithHugePages(name, 'aliasIsTracked', { args: [name] });
  });

  test(`it sees writes through an alias that came and went between two looks (B7): ${name}`, async () => {
    await passWithHugePages(name, 'aliasThatCameAndWent', { args: [name] });
  });

  test(`it loses nothing that was written through a mapping of ${name} memory that was collected (B7)`, async () => {
    await passWithHugePages(name, 'aliasThatIsCollected', { args: [name], nodeArgs: ['--expose-gc'] });
  });

  for (const buffer of BUFFERS) {
    test(`it loses nothing that was written through a mapping of ${name} memory that is gone, ${buffer} buffer (B7)`, async () => {
      await passWithHugePages(name, 'aliasThatIsGone', {
        args: [name, buffer],
        nodeArgs: ['--expose-gc'],
      });
    });
  }
}

for (const [name, buffer] of [
  ['anonymous', 'shared'],
  ['memfd', 'private'],
  ['memfd', 'shared'],
] as const) {
  test(`it makes the collector work by the weight of ${name} memory, ${buffer} buffer`, async () => {
    await passScenario('backings', 'collectorReleasesUnasked', { args: [name, buffer], timeoutMs: 20_000 });
  });
}

test('it refuses an alias of private memory', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'userfaultfd-'));
  const file = path.join(directory, 'bytes');
  writeFileSync(file, 'text');
  for (const region of [
    Region.allocate({ bytes: 1 }),
    Region.allocate({ bytes: 1, shared: true }),
    Region.allocate({ bytes: 1, backing: 'memfd', mapping: 'private' }),
    Region.allocate({ backing: 'file', path: file }),
    Region.from(new WebAssembly.Memory({ initial: 1 })),
    Region.from(new Uint8Array(4096)),
  ]) {
    assert.throws(() => region.alias(), {
      name: 'TypeError',
      code: 'ERR_INVALID_ARG_VALUE',
      message: /shared mapping of the backing 'memfd' or 'hugetlb'/,
    });
  }
  rmSync(directory, { recursive: true });
});

for (const advice of ['advise', 'never']) {
  test(`it gets transparent huge pages or not, as told: ${advice}`, async () => {
    await passScenario('backings', 'transparentHugePages', { args: [advice] });
  });
}

test('it says how to reserve huge pages when there are too few', async () => {
  await passScenario('backings', 'hugetlbWithoutPages');
});

for (const name of ['hugetlb', 'private hugetlb']) {
  for (const buffer of BUFFERS) {
    test(`it keeps the huge pages of discarded ${name} memory reserved (${buffer} buffer): no SIGBUS`, async () => {
      await passWithHugePages(name, 'hugetlbDiscardKeepsItsReservation', {
        args: [name, buffer],
        pages: 8,
        alone: true,
      });
    });
  }
}

test('it takes huge pages whole', async () => {
  await passWithHugePages('hugetlb', 'hugetlbOfAnOddPart');
});

test('it seals its memfds', async () => {
  await passScenario('backings', 'memfdIsSealed');
});

test('it says EMFILE when there is no descriptor for shared memory', () => {
  const result = spawnSync(
    'sh',
    [
      '-c',
      'ulimit -n 100; exec "$@"',
      'sh',
      process.execPath,
      path.join(__dirname, 'support', 'run-scenario.js'),
      path.join(__dirname, 'scenarios', 'backings.js'),
      'withoutDescriptors',
    ],
    { encoding: 'utf8', timeout: 10_000, killSignal: 'SIGKILL' },
  );
  assert.equal(result.status, 0, `signal ${result.signal}\n${result.stdout}${result.stderr}`);
});

for (const [name, buffer] of [
  ['memfd', 'private'],
  ['anonymous', 'shared'],
  ['memfd', 'shared'],
] as const) {
  test(`it holds 64-bit sizes and offsets in ${name} memory, ${buffer} buffer (B22)`, async () => {
    const bytes = Math.min(5 * 2 ** 30, constants.MAX_LENGTH);
    await passScenario('backings', 'isLarge', { args: [name, buffer, String(bytes)] });
  });
}

test('it rounds up to whole pages of the backing, and of V8 where the buffer is shared', async () => {
  const sizes = [1, 4096, 65_536, 65_537];
  const lengths = (shared: boolean): number[] =>
    sizes.map((bytes) => Region.allocate({ bytes, backing: 'memfd', shared }).byteLength);
  assert.deepEqual(lengths(false), [pageSize, pageSize, 65_536, 65_536 + pageSize]);
  assert.deepEqual(lengths(true), [65_536, 65_536, 65_536, 131_072]);
  await withHugePages(4, () => {
    using region = Region.allocate({ bytes: 1, backing: 'hugetlb', hugePageSize: 2 ** 21 });
    assert.equal(region.byteLength, 2 ** 21);
    using shared = Region.allocate({ bytes: 2 ** 21 + 1, backing: 'hugetlb', shared: true });
    assert.equal(shared.byteLength, 2 ** 22);
    assert.ok(shared.buffer.byteLength >= shared.byteLength);
  });
});

test('it maps a file in place: its bytes are there, and writes do not reach it', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'userfaultfd-'));
  const file = path.join(directory, 'bytes');
  const content = Buffer.from(Uint8Array.from({ length: 3 * pageSize + 5 }, (_, i) => i % 251));
  writeFileSync(file, content);
  try {
    using region = Region.allocate({ backing: 'file', path: file });
    assert.equal(region.byteLength, 4 * pageSize);
    assert.equal(Buffer.compare(region.bytes.subarray(0, content.length), content), 0);
    assert.ok(region.bytes.subarray(content.length).every((byte) => byte === 0));
    region.bytes.fill(0xff);
    assert.equal(Buffer.compare(readFileSync(file), content), 0);
    region.discard(pageSize, pageSize);
    assert.equal(region.bytes[pageSize], content[pageSize]);
    assert.equal(region.bytes[0], 0xff);

    using part = Region.allocate({ backing: 'file', path: file, fileOffset: 2 * pageSize, bytes: 7 });
    assert.equal(part.byteLength, pageSize);
    assert.equal(part.bytes[1], content[2 * pageSize + 1]);
    using shared = Region.allocate({ backing: 'file', path: file, shared: true });
    assert.equal(shared.byteLength, 4 * pageSize);
    assert.equal(shared.bytes[3 * pageSize + 4], content.at(-1));
    assert.ok(shared.buffer instanceof SharedArrayBuffer && shared.buffer.byteLength >= shared.byteLength);
    // The last page of the file, to its end.
    using last = Region.allocate({ backing: 'file', path: file, fileOffset: 3 * pageSize, shared: false });
    assert.deepEqual([...last.bytes.subarray(0, 6)], [...content.subarray(3 * pageSize), 0]);
    // The descriptor is not needed, nor is the name.
    rmSync(file);
    using again = Region.attach(region.handle);
    assert.equal(again.bytes[2 * pageSize], 0xff);
    assert.equal(part.bytes[2], content[2 * pageSize + 2]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
