// At the limit of mappings (test 37). Each function runs in a process of its own.

import assert from 'node:assert/strict';
import {
  DirtyTracker,
  PageFault,
  Region,
  Snapshot,
  Userfaultfd,
  type DirtyEngine,
  type UffdError,
} from '../../lib/index.js';
import { errnoName } from '../../lib/errors.js';
import { testing, untilAsleepInFault } from '../support/testing.js';
import { nextEvent } from './conformance-support.js';
import { eventually, sharedRegion, Toucher } from './loop-support.js';

const PAGE = 4096;
const ALL = 2 ** 40;

/** Regions that lie side by side, so that the kernel has them as one mapping; ascending. */
function neighbours(count: number): Region[] {
  const all: Region[] = [];
  for (;;) {
    all.push(Region.allocate({ bytes: PAGE }));
    const found = all.slice(-count).sort((a, b) => Number(addressOf(a) - addressOf(b)));
    const together = found.every((each, i) => addressOf(each) === addressOf(found[0]!) + BigInt(i * PAGE));
    if (found.length === count && together) return found;
  }
}

function addressOf(region: Region): bigint {
  return testing().addressOf(region.bytes);
}

/** What needs memory of its own is there before: at the limit V8 gets none either. */
function atTheLimit<T>(use: () => T): T {
  refusal(() => undefined);
  errnoName(-1);
  assert.equal(testing().takeMappings(), undefined);
  try {
    return use();
  } finally {
    testing().giveMappings(ALL);
  }
}

function refusal(use: () => unknown): UffdError | undefined {
  try {
    use();
  } catch (error) {
    return error as UffdError;
  }
  return undefined;
}

function assertNamed(error: UffdError | undefined, call: string): void {
  assert.deepEqual(
    [error?.name, error?.code, error?.errno, error?.syscall],
    ['UffdError', 'ENOMEM', -12, `ioctl(${call})`],
  );
  assert.match(error!.hint!, /vm\.max_map_count/);
  assert.ok(error!.message.includes(error!.hint!));
}

export function everyOther(): void {
  const regions = neighbours(400);
  const uffd = Userfaultfd.open();
  const counts = atTheLimit(() => {
    // Room for so many mappings, in one piece each.
    const room = 100;
    testing().giveMappings(room);
    let registered = 0;
    let error: UffdError | undefined;
    for (let i = 1; i < regions.length && error === undefined; i += 2) {
      error = refusal(() => uffd.register(regions[i]!, 'write-protect'));
      if (error === undefined) registered++;
    }
    return { room, registered, error };
  });
  assertNamed(counts.error, 'UFFDIO_REGISTER');
  assert.equal(uffd.registrations.length, counts.registered);
  assert.ok(
    counts.registered >= counts.room / 2 - 4 && counts.registered <= counts.room / 2,
    `${counts.registered} of ${counts.room}`,
  );
  uffd.close();
}

export function register(): void {
  const [, one, , other] = neighbours(5) as [Region, Region, Region, Region, Region];
  const uffd = Userfaultfd.open();
  uffd.register(one, 'missing');
  const error = atTheLimit(() => refusal(() => uffd.register(other, ['missing', 'write-protect'])));
  assertNamed(error, 'UFFDIO_REGISTER');
  assert.deepEqual(
    uffd.registrations.map(({ region }) => region),
    [one],
  );
  atTheLimit(() => {
    // Served, and plain.
    assert.equal(one.bytes[5], 0);
    other.bytes[5] = 7;
  });
  assert.equal(other.bytes[5], 7);
  // Nothing stays of the one that was refused.
  uffd.register(other, 'write-protect');
  uffd.writeProtect(other);
  other.bytes[5] = 8;
  assert.equal(uffd.armedPages(other), 0);
  uffd.close();
}

/** The kernel has the first half as a mapping of its own, and the other half as one with the neighbour. */
export function partOfRegister(): void {
  const [region, neighbour] = twoThatMeet();
  assert.equal(testing().inheritOnFork(region.bytes.subarray(2 * PAGE)), undefined);
  assert.equal(testing().inheritOnFork(neighbour.bytes), undefined);
  const uffd = Userfaultfd.open();
  const error = atTheLimit(() => refusal(() => uffd.register(region, 'missing')));
  assertNamed(error, 'UFFDIO_REGISTER');
  // Whoever touches it waits for nobody.
  region.bytes.fill(3);
  assert.ok(region.bytes.every((byte) => byte === 3));
  const another = Userfaultfd.open();
  another.register(region, 'missing');
  another.close();
  uffd.close();
}

function twoThatMeet(): [Region, Region] {
  for (;;) {
    const neighbour = Region.allocate({ bytes: 4 * PAGE });
    const region = Region.allocate({ bytes: 4 * PAGE });
    if (addressOf(region) + BigInt(4 * PAGE) === addressOf(neighbour)) return [region, neighbour];
  }
}

export function unregister(how: 'unregister' | 'registration' | 'region'): void {
  // The first and the last could become part of a neighbour; the one between them needs a split.
  const [first, one, last] = neighbours(3) as [Region, Region, Region];
  const uffd = Userfaultfd.open();
  const modes = ['missing', 'write-protect'] as const;
  const registration = uffd.register(one, modes);
  for (const beside of [first, last]) uffd.register(beside, modes);
  uffd.writeProtect(one);
  const end = {
    unregister: () => uffd.unregister(one),
    registration: () => registration.close(),
    region: () => one.close(),
  }[how];
  const error = atTheLimit(() => {
    const thrown = refusal(end);
    // Missing, then armed: served.
    one.bytes[5] = 1;
    assert.equal(last.bytes[5], 0);
    return thrown;
  });
  assertNamed(error, 'UFFDIO_UNREGISTER');
  assert.equal(uffd.registrations.length, 3);
  assert.equal(one.closed, false);
  assert.equal(one.bytes[5], 1);
  uffd.writeProtect(one);
  assert.equal(uffd.armedPages(one), 1);

  end();
  assert.deepEqual(
    uffd.registrations.map(({ region }) => region),
    [first, last],
  );
  if (how !== 'region') {
    one.bytes[5] = 2;
    assert.equal(one.bytes[5], 2);
  }
  uffd.close();
}

/** The kernel keeps the range registered; the engine ends that when the range is wanted and there is room. */
export function trackerCloses(engine: DirtyEngine): void {
  const [first, one, last] = neighbours(3) as [Region, Region, Region];
  using before = new DirtyTracker(first, { engine });
  using after = new DirtyTracker(last, { engine });
  const collected = (tracker: DirtyTracker): boolean[] => {
    one.bytes[5] = 1;
    first.bytes[5] = 1;
    return [tracker, before, after].map((each) => !each.collect().isEmpty);
  };
  const tracker = new DirtyTracker(one, { engine });
  assert.deepEqual(collected(tracker), [true, true, false]);
  const atLimit = atTheLimit(() => {
    tracker.close();
    // Nobody waits, and the others see what is theirs.
    one.bytes[5] = 2;
    first.bytes[5] = 2;
    // Another userfaultfd cannot have it yet.
    return before.collect().pageCount;
  });
  assert.equal(atLimit, 1);

  // Tracked again, at the limit and after it.
  const again = new DirtyTracker(one, { engine });
  assert.deepEqual(collected(again), [true, true, false]);
  atTheLimit(() => again.close());

  // Others may have it.
  {
    using uffd = Userfaultfd.open();
    uffd.register(one, ['missing', 'write-protect']);
    uffd.writeProtect(one);
    one.bytes[5] = 3;
    assert.equal(uffd.armedPages(one), 0);
  }
  {
    using third = new DirtyTracker(one, { engine });
    assert.deepEqual(collected(third), [true, true, false]);
    atTheLimit(() => third.close());
  }
  {
    using snapshot = Snapshot.take(one, { mode: 'copy-on-write' });
    one.bytes[5] = 9;
    snapshot.restore();
    assert.equal(one.bytes[5], 1);
  }
  // What goes takes nothing with it that came to its place.
  {
    const fourth = new DirtyTracker(one, { engine });
    atTheLimit(() => fourth.close());
    assert.equal(testing().mapAnew(one.bytes), undefined);
    using uffd = Userfaultfd.open();
    uffd.register(one, 'write-protect');
    uffd.writeProtect(one);
    new DirtyTracker(Region.allocate({ bytes: PAGE }), { engine }).close();
    assert.equal(uffd.armedPages(one), 1);
  }
}

export function close(): void {
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 600_000 });
  const [, one, other] = neighbours(4) as [Region, Region, Region, Region];
  uffd.register(one, 'missing');
  uffd.register(other, 'missing');
  const toucher = new Toucher(region.bytes, { offset: 5 });
  toucher.go();
  untilAsleepInFault(toucher.tid);
  atTheLimit(() => {
    uffd.close();
    toucher.untilDone();
    one.bytes[5] = 1;
    other.bytes[5] = 1;
  });
  assert.equal(region.bytes[5], 1);
  assert.equal(uffd.closed, true);
  // Nothing is registered any more.
  const another = Userfaultfd.open();
  for (const each of [region, one, other]) another.register(each, 'missing');
  another.close();
}

export async function events(): Promise<void> {
  const region = Region.allocate({ bytes: 4 * PAGE });
  const moved = Region.allocate({ bytes: 4 * PAGE });
  const uffd = Userfaultfd.open({ features: ['EVENT_UNMAP', 'EVENT_REMAP', 'EVENT_REMOVE'] });
  uffd.register(region, 'missing');
  uffd.register(moved, 'missing');
  atTheLimit(() => {
    region.discard();
    assert.equal(testing().mapAnew(region.bytes), undefined);
    region.bytes[5] = 1;
    moved.bytes[5] = 1;
  });
  assert.deepEqual([region.bytes[5], moved.bytes[5]], [1, 1]);
  const told = uffd.events();
  const types = [await nextEvent(told), await nextEvent(told)].map(({ type }) => type);
  assert.deepEqual(types, ['remove', 'unmap']);
  uffd.close();
}

export async function handler(): Promise<void> {
  const region = sharedRegion(1);
  const uffd = Userfaultfd.open();
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: 600_000 });
  const touchers = [0, 1].map(
    (page) => new Toucher(region.bytes, { offset: page * region.pageSize + 5, access: 'read' }),
  );
  const bytes = new Uint8Array(region.pageSize).fill(9);
  const told = uffd.events();
  for (const toucher of touchers) toucher.go();
  const faults = [await nextEvent(told), await nextEvent(told)];
  const first = faults.find((each) => each instanceof PageFault && each.pageOffset === 0);
  assert.ok(first instanceof PageFault);
  assert.equal(testing().takeMappings(), undefined);
  try {
    assert.equal(await first.resolve(bytes), true);
    await told.return!();
    for (const toucher of touchers) await eventually(() => toucher.finishedRound === 1);
  } finally {
    testing().giveMappings(ALL);
  }
  assert.deepEqual(
    touchers.map(({ lastRead }) => lastRead),
    [9, 0],
  );
  for (const toucher of touchers) await toucher.ended();
  uffd.close();
}
