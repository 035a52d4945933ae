// Conformance: what happens to registered memory besides faults. JavaScript cannot call fork(2) or
// mremap(2) on it; the test build does.

import assert from 'node:assert/strict';
import { PageFault, Userfaultfd, type RegisterMode, type Region } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { CHILD_BYTE, ForkedChild, inherit } from './conformance-child.js';
import { allocate, armed, kindOf, nextEvent } from './conformance-support.js';
import { pages } from './loop-support.js';

const COUNT = 4;

interface Watched {
  region: Region;
  uffd: Userfaultfd;
  /** The next event, in a line. */
  next: () => Promise<string>;
}

function watch(kind: string, mode: RegisterMode): Watched {
  const region = allocate(kind, COUNT);
  inherit(region);
  const uffd = Userfaultfd.open({
    features: ['EVENT_FORK', 'EVENT_REMAP', 'EVENT_REMOVE', 'EVENT_UNMAP', 'WP_HUGETLBFS_SHMEM'],
  });
  uffd.register(region, mode);
  const next = async (): Promise<string> => {
    // An iterator of its own: a fork that comes while nobody reads is the child's end.
    const events = uffd.events();
    const event = await nextEvent(events);
    await events.return!();
    if (event instanceof PageFault) {
      assert.equal(event.region, region);
      return `${event.reason} ${event.pageOffset / region.pageSize}`;
    }
    if (event.type === 'fork') return 'fork';
    return `${event.type} ${event.offset / region.pageSize} ${event.length / region.pageSize}`;
  };
  return { region, uffd, next };
}

function fork(region: Region, expected: number[]): void {
  const child = new ForkedChild(region);
  assert.deepEqual(child.firstBytes(), expected);
  assert.deepEqual(child.writes(), Array(COUNT).fill(CHILD_BYTE));
  assert.equal(child.end(), 0);
}

async function remap({ region, next }: Watched): Promise<void> {
  const failure = testing().remap(region.bytes, region.pageSize);
  assert.equal(failure, undefined, JSON.stringify(failure));
  // Away: the old addresses are unmapped. Back: from where the region has no name any more.
  assert.equal(await next(), `remap 0 ${COUNT}`);
  const rest = [await next(), await next(), await next()].map((line) => line.split(' ')[0]);
  assert.deepEqual(rest, ['unmap', 'remap', 'unmap']);
}

export async function events(kind: string): Promise<void> {
  const watched = watch(kind, 'missing');
  const { region, uffd, next } = watched;
  const { pageSize } = region;
  region.bytes[pageSize] = 1;
  assert.equal(await next(), 'missing 1');
  uffd.copy(region, 0, new Uint8Array(pageSize).fill(9));

  // The child's userfaultfd is closed: what it misses, the kernel fills.
  fork(region, [9, 1, 0, 0]);
  assert.equal(await next(), 'fork');
  const shared = kindOf(kind).aliases;
  // What the child read is in its file now, also beneath a private mapping: nothing is missing there.
  const inFile = kind === 'private memfd';
  region.bytes[2 * pageSize] = 2;
  if (!shared && !inFile) assert.equal(await next(), 'missing 2');
  assert.equal(region.bytes[0], shared ? CHILD_BYTE : 9);

  region.discard(pageSize, 2 * pageSize);
  assert.equal(await next(), 'remove 1 2');
  assert.equal(region.bytes[2 * pageSize], 0);
  if (!inFile) assert.equal(await next(), 'missing 2');

  region.bytes[0] = 6;
  await remap(watched);
  assert.equal(region.bytes[0], 6);
  region.discard();
  assert.equal(await next(), `remove 0 ${COUNT}`);
  assert.equal(region.bytes[pageSize], 0);
  if (!inFile) assert.equal(await next(), 'missing 1');
  region.close();
  uffd.close();
}

export async function eventsWp(kind: string): Promise<void> {
  const watched = watch(kind, 'write-protect');
  const { region, uffd, next } = watched;
  const { pageSize } = region;
  const write = async (page: number): Promise<void> => {
    region.bytes[page * pageSize] = 10 + page;
    assert.equal(await next(), `write-protect ${page}`);
    assert.equal(region.bytes[page * pageSize], 10 + page);
  };
  uffd.writeProtect(region);
  await write(1);

  fork(region, [0, 11, 0, 0]);
  assert.equal(await next(), 'fork');
  assert.deepEqual(armed(uffd, region), [1, 0, 1, 1]);
  await write(2);

  await remap(watched);
  assert.deepEqual(armed(uffd, region), [1, 0, 0, 1]);
  await write(3);

  uffd.writeProtect(region);
  region.discard(pageSize, pageSize);
  assert.equal(await next(), 'remove 1 1');
  assert.deepEqual(armed(uffd, region), [1, kind === 'anonymous' ? 0 : 1, 1, 1]);
  await write(0);
  uffd.unprotect(region, pages(region, 0, COUNT));
  uffd.close();
}
