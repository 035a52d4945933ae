// Conformance: UFFDIO_MOVE, of small and of transparent huge pages.

import assert from 'node:assert/strict';
import { Userfaultfd, type Region } from '../../lib/index.js';
import {
  allocate,
  firstBytes,
  HUGE,
  hugeBytes,
  makeHuge,
  NEVER_MS,
  nextFault,
  numbers,
} from './conformance-support.js';
import { eventually, pages, Toucher } from './loop-support.js';

/** Pages 1, 2, 3, … full of their number. */
function number(region: Region, unit = region.pageSize): void {
  for (let at = 0; at < region.byteLength; at += unit)
    region.bytes.fill(1 + ((at / unit) % 251), at, at + unit);
}

export async function move(kind: string): Promise<void> {
  const count = 16;
  const target = allocate(kind, count, { shared: true, hugePages: 'never' });
  const source = allocate(kind, count, { hugePages: 'never' });
  number(source);
  const uffd = Userfaultfd.open({ features: ['MOVE'] });
  uffd.register(target, 'missing', { resolve: 'handler', deadlineMs: NEVER_MS });
  const events = uffd.events();
  const { pageSize } = target;
  const thread = new Toucher(target.bytes, { stride: pageSize, count, access: 'read' });
  thread.go();
  for (let i = 0; i < count; i++) {
    const fault = await nextFault(events);
    assert.deepEqual([fault.reason, fault.pageOffset], ['missing', i * pageSize]);
    assert.equal(uffd.move(target, fault.pageOffset, source, pages(source, i)), pageSize);
    assert.equal(fault.endedBy, 'call');
  }
  await eventually(() => thread.finishedRound === 1);
  assert.equal(thread.lastRead, count);
  assert.deepEqual(
    firstBytes(target),
    numbers(count, (i) => i + 1),
  );
  assert.deepEqual(
    firstBytes(source),
    numbers(count, () => 0),
  );
  // A page that is there is not replaced.
  assert.throws(() => uffd.move(target, 0, source, pages(source, 1)), { code: 'EEXIST' });
  uffd.close();
}

function hugePair(kind: string): { target: Region; source: Region; expected: Uint8Array } {
  const [target, source] = [0, 1].map(() => allocate(kind, (2 * HUGE) / 4096, { hugePages: 'advise' })) as [
    Region,
    Region,
  ];
  number(source);
  makeHuge(source);
  return { target, source, expected: source.bytes.slice() };
}

export function movePmd(kind: string): void {
  const { target, source, expected } = hugePair(kind);
  using uffd = Userfaultfd.open({ features: ['MOVE'] });
  uffd.register(target, 'missing');
  for (const offset of [HUGE, 0]) {
    assert.equal(uffd.move(target, offset, source, { offset, length: HUGE }), HUGE);
  }
  assert.equal(hugeBytes(target), 2 * HUGE);
  assert.equal(hugeBytes(source), 0);
  assert.equal(Buffer.compare(target.bytes, expected), 0);
  assert.ok(source.bytes.every((byte) => byte === 0));
}

export function movePmdSplit(kind: string): void {
  const { target, source, expected } = hugePair(kind);
  using uffd = Userfaultfd.open({ features: ['MOVE'] });
  uffd.register(target, 'missing');
  const length = HUGE / 32;
  // Backwards, so that no part is beside the one before at the time.
  for (let offset = 2 * HUGE - length; offset >= 0; offset -= length) {
    assert.equal(uffd.move(target, offset, source, { offset, length }), length);
  }
  assert.equal(hugeBytes(target), 0);
  assert.equal(Buffer.compare(target.bytes, expected), 0);
  assert.ok(source.bytes.every((byte) => byte === 0));
}
