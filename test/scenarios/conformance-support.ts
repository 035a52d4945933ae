// What the rows of the conformance matrix (test/support/conformance.ts) share.

import assert from 'node:assert/strict';
import { isFailure } from '../../lib/binding.js';
import {
  PageFault,
  Region,
  type AllocateMemoryOptions,
  type UffdEvent,
  type Userfaultfd,
} from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { KINDS, type Kind } from './backing-kinds.js';

export const HUGE = 2 * 2 ** 20;
/** Far beyond what a cell takes, so that no deadline helps out. */
export const NEVER_MS = 600_000;

export function kindOf(name: string): Kind {
  return KINDS[name]!;
}

/** Memory of that kind; `shared`: other threads can have it. */
export function allocate(
  name: string,
  pages: number,
  more: Pick<AllocateMemoryOptions, 'shared' | 'hugePages'> = {},
): Region {
  const { options, hugetlb } = kindOf(name);
  const { backing, mapping } = options;
  assert.ok(backing !== 'file');
  const bytes = pages * (hugetlb ? HUGE : 4096);
  return Region.allocate({ backing, bytes, ...(mapping === undefined ? {} : { mapping }), ...more });
}

export function pageOf(region: Region, value: number): Uint8Array {
  return new Uint8Array(region.pageSize).fill(value);
}

/** The first byte of each page. */
export function firstBytes(region: Region): number[] {
  return Array.from(
    { length: region.byteLength / region.pageSize },
    (_, i) => region.bytes[i * region.pageSize]!,
  );
}

export function numbers(count: number, value: (index: number) => number): number[] {
  return Array.from({ length: count }, (_, i) => value(i));
}

export async function nextEvent(events: AsyncIterator<UffdEvent>): Promise<UffdEvent> {
  const { value } = (await events.next()) as IteratorYieldResult<UffdEvent>;
  return value;
}

export async function nextFault(events: AsyncIterator<UffdEvent>): Promise<PageFault> {
  const event = await nextEvent(events);
  assert.ok(event instanceof PageFault, `a page fault, not ${event.type}`);
  return event;
}

/** Which pages are armed. */
export function armed(uffd: Userfaultfd, region: Region): number[] {
  const { pageSize } = region;
  return numbers(region.byteLength / pageSize, (i) =>
    uffd.armedPages(region, { offset: i * pageSize, length: pageSize }),
  );
}

/** In bytes: what huge pages map. */
export function hugeBytes(region: Region): number {
  const bytes = testing().hugeBytes(region.bytes);
  assert.ok(!isFailure(bytes), JSON.stringify(bytes));
  return bytes;
}

/** The kernel may have none at hand when a page is first touched; asked for, it makes one. */
export function makeHuge(region: Region): void {
  if (hugeBytes(region) === region.byteLength) return;
  const failure = testing().collapse(region.bytes);
  assert.equal(failure, undefined, JSON.stringify(failure));
  assert.equal(hugeBytes(region), region.byteLength);
}
