// Conformance: write protection in a child of fork(2). Its memory is kept from children (MADV_DONTFORK);
// these tests lift that.

import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { isFailure } from '../../lib/binding.js';
import { Userfaultfd, type Feature, type Region, type UffdEvent } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { CHILD_BYTE, ForkedChild, inherit } from './conformance-child.js';
import { allocate, armed, firstBytes, kindOf, nextEvent } from './conformance-support.js';
import { pages, withoutWatchdog } from './loop-support.js';

interface Prepared {
  region: Region;
  uffd: Userfaultfd;
  /** Of each page: armed and never touched, armed, not armed, armed and then given back. */
  armedPages: number[];
}

function prepare(kind: string, features: Feature[]): Prepared {
  const region = allocate(kind, 4);
  inherit(region);
  const uffd = Userfaultfd.open({ features });
  uffd.register(region, 'write-protect');
  for (const page of [1, 2, 3]) region.bytes[page * region.pageSize] = 10 + page;
  return { region, uffd, armedPages: [1, 1, 0, kind === 'anonymous' ? 0 : 1] };
}

function arm({ region, uffd, armedPages }: Prepared): void {
  uffd.writeProtect(region);
  uffd.unprotect(region, pages(region, 2));
  region.discard(3 * region.pageSize, region.pageSize);
  assert.deepEqual(armed(uffd, region), armedPages);
}

/** The child has the bytes, and writes them. */
function finish(
  kind: string,
  child: ForkedChild,
  { region, uffd, armedPages }: Prepared,
  written = child.writes(),
): void {
  assert.deepEqual(written, [CHILD_BYTE, CHILD_BYTE, CHILD_BYTE, CHILD_BYTE]);
  assert.equal(child.end(), 0);
  assert.deepEqual(armed(uffd, region), armedPages, 'the parent keeps its protection');
  const shared = kindOf(kind).aliases;
  assert.deepEqual(firstBytes(region), shared ? Array(4).fill(CHILD_BYTE) : [0, 11, 12, 0]);
}

function forkWithoutEvent(kind: string, prepared: Prepared, pinFile?: string): void {
  const before = firstBytes(prepared.region);
  const child = new ForkedChild(prepared.region, pinFile);
  assert.deepEqual(child.armed(), [0, 0, 0, 0]);
  assert.deepEqual(child.firstBytes(), before);
  finish(kind, child, prepared);
}

/**
 * Twice. First nobody reads events: the loop has read the fork's and not yet closed the child's
 * userfaultfd, so nobody serves the child. Then the event's object arms pages and disarms others.
 */
async function forkWithEvent(kind: string, prepared: Prepared, pinFile?: string): Promise<void> {
  const { region, uffd, armedPages } = prepared;
  const before = firstBytes(region);
  testing().closeBarrier('server-before-fork');
  const child = new ForkedChild(region, pinFile);
  assert.deepEqual(child.armed(), armedPages, 'the child has the same pages armed');
  assert.deepEqual(child.firstBytes(), before);
  child.order('w');
  child.untilAsleepInFault();
  testing().openBarrier('server-before-fork');
  finish(kind, child, prepared, child.tells());
  const events = uffd.events();
  const first = await nextEvent(events);
  assert.ok(first.type === 'fork' && first.child.closed);
  await withTheChild(kind, prepared, events, pinFile);
  await events.return!();
}

async function withTheChild(
  kind: string,
  prepared: Prepared,
  events: AsyncIterator<UffdEvent>,
  pinFile?: string,
): Promise<void> {
  const { region, uffd, armedPages } = prepared;
  const child = new ForkedChild(region, pinFile);
  const event = await nextEvent(events);
  assert.ok(event.type === 'fork' && !event.child.closed);
  event.child.writeProtect(region);
  assert.deepEqual(child.armed(), [1, 1, 1, 1]);
  event.child.unprotect(region, pages(region, 1, 3));
  assert.deepEqual(child.armed(), [1, 0, 0, 0]);
  assert.deepEqual(armed(uffd, region), armedPages);
  assert.deepEqual(child.writes(), Array(4).fill(CHILD_BYTE), 'the loop ends the fault of its write');
  assert.deepEqual(child.armed(), [0, 0, 0, 0]);
  event.child.writeProtect(region);
  event.child.close();
  assert.deepEqual(child.armed(), [0, 0, 0, 0]);
  assert.equal(kindOf(kind).aliases, firstBytes(region)[2] === CHILD_BYTE);
  assert.equal(child.end(), 0);
}

export function wpFork(kind: string): void {
  const prepared = prepare(kind, []);
  arm(prepared);
  forkWithoutEvent(kind, prepared);
}

export async function wpForkWithEvent(kind: string): Promise<void> {
  withoutWatchdog();
  const prepared = prepare(kind, ['EVENT_FORK']);
  arm(prepared);
  await forkWithEvent(kind, prepared);
}

/** `fork` twice: with pages pinned before, and with a child that pins its own. */
async function withPins(
  prepared: Prepared,
  fork: (prepared: Prepared, pinFile?: string) => void | Promise<void>,
): Promise<void> {
  const { region } = prepared;
  const { pageSize } = region;
  // Pinning writes, so it comes before arming.
  const pin = testing().pinPages(region.bytes.subarray(pageSize, 3 * pageSize));
  assert.ok(!isFailure(pin), JSON.stringify(pin));
  arm(prepared);
  await fork(prepared);
  closeSync(pin);
  const directory = mkdtempSync(path.join(tmpdir(), 'userfaultfd-'));
  try {
    const pinFile = path.join(directory, 'read-directly');
    writeFileSync(pinFile, '');
    await fork(prepared, pinFile);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export async function wpForkPin(kind: string): Promise<void> {
  await withPins(prepare(kind, []), (prepared, pinFile) => forkWithoutEvent(kind, prepared, pinFile));
}

export async function wpForkPinWithEvent(kind: string): Promise<void> {
  withoutWatchdog();
  const prepared = prepare(kind, ['EVENT_FORK']);
  await withPins(prepared, (each, pinFile) => forkWithEvent(kind, each, pinFile));
}
