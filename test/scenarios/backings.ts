// What each kind of memory is, as the kernel and the rest of the package see it.

import assert from 'node:assert/strict';
import { randomFill } from 'node:crypto';
import {
  closeSync,
  existsSync,
  openSync,
  read,
  readdirSync,
  readFileSync,
  readlinkSync,
  truncateSync,
} from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { DirtyTracker, Region, Snapshot, UffdError, Userfaultfd } from '../../lib/index.js';
import { binding } from '../../lib/binding.js';
import { hugePageCounts, HUGE_PAGE } from '../support/huge-pages.js';
import { KINDS, withOptions } from './backing-kinds.js';
import { testing } from '../support/testing.js';
import { mappings, presentPages, residentBytes, type Mapping } from './region-memory-map.js';

const MIB = 2 ** 20;

/** The kernel's entry for a region; it joins neighbours that are alike. */
function mappingOf(region: Region): Mapping {
  const start = testing().addressOf(region.bytes);
  const end = start + BigInt(region.byteLength);
  const found = mappings().find((each) => each.start <= start && end <= each.end);
  assert.ok(found !== undefined, 'one mapping has all of it');
  return found;
}

const flagOf = (text: string): boolean => text === 'shared';

export function isWhatTheKernelLists(name: string, shared: string): void {
  const kind = KINDS[name]!;
  withOptions(name, kind.hugetlb ? 3 : 1232, flagOf(shared), (options, pageSize) => {
    const region = Region.allocate(options);
    assert.equal(region.backing, kind.options.backing);
    assert.equal(region.kind, 'owned');
    assert.equal(region.pageSize, pageSize);
    assert.equal(region.byteLength, options.bytes);
    assert.equal(region.bytes.byteLength, region.byteLength);
    assert.equal(region.buffer instanceof SharedArrayBuffer, flagOf(shared));
    const start = testing().addressOf(region.bytes);
    assert.equal(start % BigInt(pageSize), 0n);
    const mapping = mappingOf(region);
    assert.equal(mapping.permissions, kind.aliases ? 'rw-s' : 'rw-p');
    assert.ok(mapping.flags.has('dc'), 'MADV_DONTFORK');
    assert.ok(!mapping.flags.has('mg'), 'not mergeable');
    assert.equal(mapping.flags.has('ht'), kind.hugetlb, 'hugetlb');
    if (kind.hugetlb) assert.ok(!mapping.flags.has('nr'), 'its pages are reserved');
    assert.equal(presentPages(start, region.byteLength, 4096), 0, 'nothing is resident before it is touched');
    assert.ok(region.bytes.every((byte) => byte === kind.fresh));
    region.bytes.fill(7);
    assert.ok(region.bytes.every((byte) => byte === 7));
    assert.equal(presentPages(start, region.byteLength, 4096), region.byteLength / 4096);
  });
}

export function discards(name: string, shared: string): void {
  withOptions(name, 8, flagOf(shared), (options) => {
    const region = Region.allocate(options);
    const { bytes, pageSize } = region;
    const { fresh } = KINDS[name]!;
    bytes.fill(9);
    region.discard(2 * pageSize, 3 * pageSize);
    const pages = [...Array(8).keys()].map((page) => [
      bytes[page * pageSize],
      bytes[(page + 1) * pageSize - 1],
    ]);
    assert.deepEqual(
      pages.map(([first, last]) => (first === last ? first : NaN)),
      [9, 9, fresh, fresh, fresh, 9, 9, 9],
    );
    region.discard();
    assert.ok(bytes.every((byte) => byte === fresh));
    bytes.fill(3);
    assert.ok(
      bytes.every((byte) => byte === 3),
      'and may be written again',
    );
  });
}

/** What the loop of a userfaultfd does with a fault is not asked here: nothing waits. */
export function registers(name: string, shared: string): void {
  const kind = KINDS[name]!;
  withOptions(name, 16, flagOf(shared), (options, pageSize) => {
    const region = Region.allocate(options);
    using uffd = Userfaultfd.open();
    if (!kind.registers) {
      for (const mode of ['missing', 'write-protect'] as const) {
        assert.throws(() => uffd.register(region, mode), {
          code: 'EINVAL',
          syscall: 'ioctl(UFFDIO_REGISTER)',
        });
      }
      return;
    }
    const both = uffd.register(region, ['missing', 'write-protect']);
    const allowed = ['COPY', 'WAKE', 'WRITEPROTECT', ...(kind.hugetlb ? [] : ['ZEROPAGE'])];
    for (const ioctl of allowed) assert.ok(both.ioctls.has(ioctl), `${ioctl} of ${[...both.ioctls].join()}`);
    assert.equal(both.ioctls.has('ZEROPAGE'), !kind.hugetlb);

    // Fills pages that are missing; armed or not.
    const page = new Uint8Array(pageSize);
    assert.equal(uffd.copy(region, pageSize, page.fill(1)), pageSize);
    assert.equal(uffd.copy(region, 2 * pageSize, page.fill(2), { writeProtect: true }), pageSize);
    assert.throws(() => uffd.copy(region, pageSize, page), { code: 'EEXIST' });
    assert.deepEqual(
      [region.bytes[pageSize], region.bytes[2 * pageSize], region.bytes[3 * pageSize - 1]],
      [1, 2, 2],
    );
    assert.equal(uffd.armedPages(region), 1);

    // Arms pages that exist and pages that do not.
    uffd.writeProtect(region, { offset: 0, length: 8 * pageSize });
    assert.equal(uffd.armedPages(region), 8);
    uffd.unprotect(region, { offset: pageSize, length: 2 * pageSize });
    assert.equal(uffd.armedPages(region), 6);
    region.bytes[pageSize] = 5;
    assert.equal(region.bytes[pageSize], 5);

    // Gives pages back: they are missing again. Their protection goes too where they were private.
    region.discard();
    assert.equal(uffd.armedPages(region), kind.options.backing === 'anonymous' ? 0 : 6);
    assert.equal(uffd.copy(region, 2 * pageSize, page.fill(4)), pageSize);
    assert.equal(region.bytes[2 * pageSize], 4);
    region.close();
    assert.equal(uffd.registrations.length, 0);
  });
}

export function isTrackedAndRestored(name: string, shared: string): void {
  withOptions(name, 16, flagOf(shared), (options) => {
    const region = Region.allocate(options);
    const { bytes, pageSize } = region;
    bytes[3 * pageSize] = 3;
    using tracker = new DirtyTracker(region);
    assert.equal(tracker.exact, true);
    assert.equal(tracker.collect().isEmpty, true);
    bytes[5 * pageSize + 17] = 1;
    bytes[9 * pageSize] = 1;
    assert.deepEqual(
      [...tracker.collect()],
      [5, 9].map((page) => ({ offset: page * pageSize, length: pageSize })),
    );
    const before = bytes.slice();
    using snapshot = Snapshot.take(region);
    bytes.fill(8, 0, 2 * pageSize);
    region.discard(3 * pageSize, pageSize);
    snapshot.restore();
    assert.equal(Buffer.compare(bytes, before), 0);
    assert.equal(tracker.collect().has(3 * pageSize), true);
  });
}

/** Of this process, once the addon is loaded and has opened what it keeps open. */
function descriptors(): number {
  binding();
  return readdirSync('/proc/self/fd').length;
}

/** The closed object is still held. */
export function closeGivesPagesBack(name: string): void {
  const { hugetlb } = KINDS[name]!;
  withOptions(name, hugetlb ? 8 : 2048, false, (options) => {
    const before = descriptors();
    const region = Region.allocate(options);
    const { bytes } = region;
    const free = hugePageCounts();
    bytes.fill(1);
    region.close();
    assert.equal(bytes.byteLength, 0);
    assert.equal(descriptors(), before);
    if (hugetlb) {
      const now = hugePageCounts();
      assert.equal(now.free, free.free, 'all huge pages are free again');
      assert.equal(now.reserved, free.reserved - 8, 'and promised to nobody');
    }
    const flags = hugetlb ? 'ht' : 'dc';
    const resident = mappings().filter((each) => each.flags.has(flags) && each.residentBytes > 4 * MIB);
    assert.deepEqual(resident, []);
  });
}

/** `fs.read` and `crypto.randomFill` are under way: what they write hits nobody. */
export async function closesDuringAsyncWork(name: string): Promise<void> {
  const random = openSync('/dev/urandom', 'r');
  const work: Promise<unknown>[] = [];
  for (let round = 0; round < 20; round++) {
    withOptions(name, KINDS[name]!.hugetlb ? 1 : 512, false, (options) => {
      const region = Region.allocate(options);
      const { bytes } = region;
      work.push(
        new Promise((resolve) => {
          if (round % 2 === 0) read(random, bytes, 0, bytes.length, 0, resolve);
          else randomFill(bytes, resolve);
        }),
      );
      region.close();
      const next = Region.allocate(options);
      const { fresh } = KINDS[name]!;
      assert.deepEqual([next.bytes[0], next.bytes.at(-1)], [fresh, fresh]);
      next.close();
    });
  }
  await Promise.all(work);
  closeSync(random);
}

export async function collectorReleases(name: string, shared: string): Promise<void> {
  const { hugetlb } = KINDS[name]!;
  const pages = hugetlb ? 2 : 1024;
  const before = descriptors();
  const allocateTouchDrop = (): void => {
    withOptions(name, pages, flagOf(shared), (options) => {
      const region = Region.allocate(options);
      region.bytes.fill(1);
      if (KINDS[name]!.aliases) region.alias().bytes.fill(2);
    });
  };
  for (let i = 0; i < 64; i++) {
    allocateTouchDrop();
    if (i % 4 === 3) {
      gc!();
      await turn();
    }
  }
  const most = 6;
  for (let i = 0; i < 200 && descriptors() > before + most; i++) {
    gc!();
    await turn();
  }
  assert.ok(descriptors() <= before + most, 'no descriptor per forgotten region');
  const ours = mappings().filter(
    (each) => each.flags.has('dc') && each.bytes === pages * (hugetlb ? HUGE_PAGE : 4096),
  );
  assert.ok(ours.length <= 2 * most, `${ours.length} of 64 forgotten regions are mapped`);
}

/** Nobody calls gc(): V8 must know what these buffers weigh. */
export async function collectorReleasesUnasked(name: string, shared: string): Promise<void> {
  const before = residentBytes();
  const fds = descriptors();
  let most = 0;
  const allocateTouchDrop = (): void => {
    const options = { ...KINDS[name]!.options, bytes: 16 * MIB, shared: flagOf(shared) };
    Region.allocate(options as { bytes: number }).bytes.fill(1);
  };
  for (let i = 0; i < 100; i++) {
    allocateTouchDrop();
    await turn();
    most = Math.max(most, residentBytes() - before);
  }
  assert.ok(most < 800 * MIB, `${most / MIB} MiB of 1,600 resident at once`);
  assert.ok(descriptors() - fds < 50, 'of 100');
}

export function isAliased(name: string, shared: string): void {
  withOptions(name, 4, flagOf(shared), (options) => {
    const region = Region.allocate(options);
    const { pageSize } = region;
    const alias = region.alias();
    assert.notEqual(alias.buffer, region.buffer);
    assert.equal(alias.byteLength, region.byteLength);
    assert.equal(alias.pageSize, pageSize);
    assert.equal(alias.backing, region.backing);
    assert.equal(alias.buffer instanceof SharedArrayBuffer, flagOf(shared));
    region.bytes[5] = 5;
    alias.bytes[pageSize] = 6;
    assert.deepEqual([alias.bytes[5], region.bytes[pageSize]], [5, 6]);

    // What is given back is given back in both.
    alias.discard(0, pageSize);
    assert.deepEqual([region.bytes[5], region.bytes[pageSize]], [0, 6]);

    // Each has a life of its own, in any order.
    const third = alias.alias();
    region.close();
    assert.equal(alias.bytes[pageSize], 6);
    third.bytes[7] = 7;
    assert.equal(alias.bytes[7], 7);
    alias.close();
    assert.deepEqual([third.bytes[7], third.bytes[pageSize]], [7, 6]);
    third.close();
    assert.throws(() => third.alias(), { code: 'ERR_UFFD_CLOSED' });
  });
}

/** A tracker sees writes through any mapping of its memory, a userfaultfd through its own only (B7). */
export function aliasIsTracked(name: string): void {
  withOptions(name, 4, false, (options) => {
    for (const engine of ['wp-async', 'wp-sync', 'compare'] as const) {
      const region = Region.allocate(options);
      const { pageSize } = region;
      const early = region.alias();
      const pages = (tracker: DirtyTracker): number[] =>
        [...tracker.collect()].flatMap(({ offset, length }) =>
          Array.from({ length: length / pageSize }, (_, i) => offset / pageSize + i),
        );
      {
        using tracker = new DirtyTracker(region, { engine });
        using both = new DirtyTracker([region, early], { engine });
        early.bytes[pageSize] = 1;
        region.bytes[2 * pageSize] = 1;
        assert.equal(region.bytes[pageSize], 1);
        assert.deepEqual(pages(tracker), [1, 2], engine);
        assert.deepEqual(pages(tracker), []);
        const dirty = both.collect();
        assert.deepEqual([dirty.of(0).pageCount, dirty.of(1).pageCount], [2, 2], engine);
        using late = region.alias();
        late.bytes[3 * pageSize] = 1;
        // It may have been written before it was watched.
        assert.deepEqual(pages(tracker), engine === 'compare' ? [3] : [0, 1, 2, 3]);
        late.bytes[0] = 1;
        assert.equal(tracker.peek().has(0), true);
        assert.deepEqual(pages(tracker), [0]);
        late.close();
        // What was written through it before it went, nobody can look up any more.
        assert.deepEqual(pages(tracker), engine === 'compare' ? [] : [0, 1, 2, 3]);
        early.discard(pageSize, pageSize);
        assert.deepEqual(pages(tracker), [1], 'given back through another mapping');
        early.bytes[pageSize] = 2;
        assert.deepEqual(pages(tracker), [1]);
      }
      using uffd = Userfaultfd.open();
      uffd.register(region, 'write-protect');
      uffd.writeProtect(region);
      early.bytes[0] = 9;
      assert.equal(region.bytes[0], 9);
      assert.equal(uffd.armedPages(region), 4, 'no protection was in the way');
      region.close();
      early.close();
    }
  });
}

/** What is written through a mapping that is closed before anybody looks (B7). */
export function aliasThatIsGone(name: string, buffer: string): void {
  withOptions(name, 4, buffer === 'shared', (options) => {
    for (const engine of ['wp-async', 'wp-sync', 'compare'] as const) {
      for (const isKnown of [true, false]) {
        const region = Region.allocate(options);
        const { pageSize } = region;
        const known = isKnown ? region.alias() : undefined;
        using tracker = new DirtyTracker(region, { engine });
        using consumer = tracker.consumer();
        const alias = known ?? region.alias();
        // A mapping of a shared buffer goes with it, and then all pages may have been written.
        const buffers = [region.buffer, alias.buffer];
        alias.bytes[2 * pageSize] = 1;
        alias.close();
        global.gc!();
        assert.equal(tracker.peek().has(2 * pageSize), true, `${engine}, alias known: ${isKnown}`);
        for (const each of [tracker, consumer]) {
          assert.equal(each.collect().has(2 * pageSize), true, `${engine}, alias known: ${isKnown}`);
          assert.equal(each.collect().isEmpty, true);
        }
        // The other way round: the first mapping goes.
        const stays = region.alias();
        using ofStays = new DirtyTracker(stays, { engine });
        region.bytes[3 * pageSize] = 1;
        tracker.close();
        consumer.close();
        region.close();
        assert.equal(ofStays.collect().has(3 * pageSize), true, engine);
        global.gc!();
        stays.bytes[0] = 1;
        assert.equal(ofStays.collect().pageCount, 1);
        // Also what keeps them until here.
        assert.ok(buffers.every(({ byteLength }) => byteLength > 0 === (buffer === 'shared')));
        ofStays.close();
        stays.close();
      }
    }
  });
}

/** Nobody looked while it was there, and nobody shares the pages. */
export function aliasThatCameAndWent(name: string): void {
  withOptions(name, 4, false, (options) => {
    for (const engine of ['wp-async', 'wp-sync', 'compare'] as const) {
      const region = Region.allocate(options);
      const { pageSize } = region;
      using tracker = new DirtyTracker(region, { engine });
      const alias = region.alias();
      alias.bytes[2 * pageSize] = 1;
      alias.close();
      assert.equal(tracker.collect().has(2 * pageSize), true, engine);
      assert.equal(tracker.collect().isEmpty, true, engine);
      tracker.close();
      region.close();
    }
  });
}

/** A shared buffer that another thread still has when its region and all that knew of it are gone (B7). */
export async function postedAndForgotten(which: string): Promise<void> {
  const { pageSize } = binding();
  const [posted, alias] = (() => {
    const region = Region.allocate({ bytes: 128 * pageSize, backing: 'memfd', shared: true });
    const pair = [structuredClone(region.buffer) as SharedArrayBuffer, region.alias()] as const;
    region.close();
    return pair;
  })();
  for (let turn = 0; turn < 5; turn++) {
    global.gc!();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const bytes = new Uint8Array(posted);
  // Nobody may take it for memory of one mapping.
  assert.throws(() => Snapshot.take(alias, { mode: 'copy-on-write' }), { code: 'ERR_INVALID_ARG_VALUE' });
  using tracker = new DirtyTracker(which === 'posted' ? posted : alias);
  bytes[5 * pageSize] = 1;
  alias.bytes[7 * pageSize] = 1;
  assert.deepEqual([alias.bytes[5 * pageSize], bytes[7 * pageSize]], [1, 1]);
  const dirty = tracker.collect();
  assert.equal(dirty.has(5 * pageSize), true);
  assert.equal(dirty.has(7 * pageSize), true);
  tracker.collect();
  bytes[9 * pageSize] = 1;
  alias.bytes[11 * pageSize] = 1;
  assert.deepEqual(
    [...tracker.collect()].map(({ offset }) => offset / pageSize),
    [9, 11],
  );
}

/** A mapping in a shared buffer that nobody has any more: V8 unmaps it (B7). */
export async function aliasThatIsCollected(name: string): Promise<void> {
  for (const engine of ['wp-async', 'wp-sync', 'compare'] as const) {
    const region = withOptions(name, KINDS[name]!.hugetlb ? 8 : 128, true, (options) =>
      Region.allocate(options),
    );
    const { pageSize, byteLength } = region;
    using tracker = new DirtyTracker(region, { engine });
    for (let round = 0; round < 3; round++) {
      (() => {
        const alias = region.alias();
        tracker.collect();
        alias.bytes[2 * pageSize] = round + 1;
        alias.close();
      })();
      for (let turn = 0; turn < 5; turn++) {
        global.gc!();
        await new Promise((resolve) => setImmediate(resolve));
      }
      // Others may have come to lie where it was.
      const others = Array.from(
        { length: 8 },
        () => new WebAssembly.Memory({ initial: byteLength / 65_536 }),
      );
      const dirty = tracker.collect();
      assert.equal(dirty.has(2 * pageSize), true, `${engine}, round ${round}`);
      assert.equal(region.bytes[2 * pageSize], round + 1);
      region.bytes[5 * pageSize] = round + 1;
      assert.deepEqual([...tracker.collect()], [{ offset: 5 * pageSize, length: pageSize }]);
      assert.equal(tracker.collect().isEmpty, true);
      assert.equal(others.length, 8);
    }
    tracker.close();
    region.close();
  }
}

export function transparentHugePages(advice: string): void {
  for (const backing of ['anonymous', 'memfd'] as const) {
    const region = Region.allocate({ bytes: 16 * MIB, backing, hugePages: advice as 'never' | 'advise' });
    const mapping = (): Mapping => mappingOf(region);
    assert.ok(mapping().flags.has(advice === 'advise' ? 'hg' : 'nh'), [...mapping().flags].join());
    if (advice === 'advise')
      assert.equal(testing().addressOf(region.bytes) % BigInt(2 * MIB), 0n, 'a huge page fits everywhere');
    region.bytes.fill(1);
    if (backing === 'anonymous') {
      // The kernel may run out of whole ones.
      if (advice === 'advise') assert.ok(mapping().hugeBytes >= 2 * MIB, `${mapping().hugeBytes}`);
      else assert.equal(mapping().hugeBytes, 0);
    }
  }
}

/** More than the system has: a clear error now, never a SIGBUS later. */
export function hugetlbWithoutPages(): void {
  for (const mapping of ['shared', 'private'] as const) {
    for (const shared of [false, true]) {
      const before = descriptors();
      let thrown: unknown;
      try {
        Region.allocate({ bytes: 2 ** 32 - 2 * HUGE_PAGE, backing: 'hugetlb', mapping, shared });
      } catch (error) {
        thrown = error;
      }
      assert.ok(thrown instanceof UffdError, String(thrown));
      assert.equal(thrown.code, 'ENOMEM');
      assert.equal(thrown.syscall, 'mmap(MAP_HUGETLB)');
      assert.match(thrown.hint!, /vm\.nr_hugepages/);
      assert.equal(descriptors(), before);
    }
  }
}

/** Alone with all huge pages there are: what was discarded is still promised to the region. */
export function hugetlbDiscardKeepsItsReservation(name: string, shared: string): void {
  withOptions(name, 4, flagOf(shared), (options) => {
    const region = Region.allocate(options);
    region.bytes.fill(1);
    region.discard();
    const others: Region[] = [];
    try {
      for (;;) others.push(Region.allocate({ bytes: HUGE_PAGE, backing: 'hugetlb' }));
    } catch (error) {
      assert.equal((error as UffdError).code, 'ENOMEM');
    }
    assert.ok(others.length > 0);
    for (const each of others) each.bytes.fill(2);
    assert.ok(region.bytes.every((byte) => byte === 0));
    region.bytes.fill(3);
    assert.ok(others.every(({ bytes }) => bytes[0] === 2));
  });
}

/** Whoever finds its descriptor cannot cut pages off under the mapping. */
export function memfdIsSealed(): void {
  const region = Region.allocate({ bytes: 4 * 4096, backing: 'memfd' });
  const isMemfd = (name: string): boolean => {
    return readlinkSync(`/proc/self/fd/${name}`).startsWith('/memfd:');
  };
  // Not the descriptor that reads the directory, which is gone.
  const open = readdirSync('/proc/self/fd').filter((name) => existsSync(`/proc/self/fd/${name}`));
  const [fd] = open.filter(isMemfd);
  assert.ok(fd !== undefined);
  for (const bytes of [0, 8 * 4096]) {
    assert.throws(() => truncateSync(`/proc/self/fd/${fd}`, bytes), { code: 'EPERM' });
  }
  region.bytes.fill(1);
  region.close();
}

export function withoutDescriptors(): void {
  const region = Region.allocate({ bytes: 4096, backing: 'memfd' });
  const alias = region.alias();
  try {
    throw new UffdError('any', { code: 'ERR_ANY' });
  } catch {
    // Loads what an error needs.
  }
  const taken: number[] = [];
  for (;;) {
    try {
      taken.push(openSync('/dev/null', 'r'));
    } catch {
      break;
    }
  }
  const codes = [{ backing: 'memfd' }, { backing: 'hugetlb' }].map((options) => {
    try {
      Region.allocate({ bytes: 1, ...options } as { bytes: number });
      return 'works';
    } catch (error) {
      const { code, syscall, hint } = error as UffdError;
      return `${code} ${syscall} ${/ulimit -n/.test(hint ?? '')}`;
    }
  });
  const file = (() => {
    try {
      Region.allocate({ backing: 'file', path: process.execPath });
      return 'works';
    } catch (error) {
      return (error as UffdError).code;
    }
  })();
  // What needs none goes on.
  region.alias().bytes.fill(1);
  Region.allocate({ bytes: 4096, shared: true }).bytes.fill(1);
  Region.attach(region.handle).close();
  for (const fd of taken) closeSync(fd);
  assert.deepEqual(codes, ['EMFILE memfd_create true', 'EMFILE memfd_create(MFD_HUGETLB) true']);
  assert.equal(file, 'EMFILE');
  assert.equal(alias.bytes[0], 1);
  Region.allocate({ bytes: 1, backing: 'memfd' }).bytes.fill(1);
}

/** More than 32 bits of offset, in memory that is never resident. */
export function isLarge(name: string, shared: string, bytesText: string): void {
  const bytes = Number(bytesText);
  const region = Region.allocate({ ...KINDS[name]!.options, bytes, shared: flagOf(shared) } as {
    bytes: number;
  });
  assert.equal(region.byteLength, bytes);
  const { pageSize } = region;
  using tracker = new DirtyTracker(region);
  region.bytes[bytes - 1] = 1;
  assert.deepEqual([...tracker.collect()], [{ offset: bytes - pageSize, length: pageSize }]);
  if (KINDS[name]!.aliases) assert.equal(region.alias().bytes[bytes - 1], 1);
  region.discard(bytes - pageSize, pageSize);
  assert.equal(region.bytes[bytes - 1], 0);
  tracker.close();
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region, { offset: bytes - pageSize, length: pageSize });
  assert.equal(uffd.armedPages(region), 1);
  assert.ok(residentBytes() < 1024 * MIB);
}

export function hugetlbOfAnOddPart(): void {
  const region = Region.allocate({ bytes: 2 * HUGE_PAGE, backing: 'hugetlb' });
  {
    using odd = new DirtyTracker(region.bytes.subarray(4096, 8192));
    assert.deepEqual([odd.exact, odd.peek().pageSize], [false, HUGE_PAGE]);
    region.bytes[HUGE_PAGE] = 1;
    assert.equal(odd.collect().isEmpty, true);
    region.bytes[0] = 1;
    const dirty = odd.collect();
    assert.deepEqual([...dirty], [{ offset: 0, length: 4096 }], 'its part of the huge page');
    assert.deepEqual([dirty.pageCount, [...dirty.toBitmap()]], [1, [1]]);
  }
  using tracker = new DirtyTracker(region.bytes.subarray(HUGE_PAGE));
  region.bytes[HUGE_PAGE] = 1;
  assert.equal(tracker.collect().byteLength, HUGE_PAGE);
  assert.match(readFileSync('/proc/self/status', 'utf8'), /HugetlbPages:\s+4096 kB/);
}
