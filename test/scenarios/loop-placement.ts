// On which processors the native loop of a copy-on-write snapshot, or of a lazy restore, may run. Each
// function runs in a process of its own (test 44).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os, { tmpdir } from 'node:os';
import path from 'node:path';
import { Region, Snapshot, SnapshotFile } from '../../lib/index.js';
import {
  allowedProcessors,
  kernelThreadId,
  testing,
  threadName,
  untilSomebodyWaitsAt,
  wchan,
} from '../support/testing.js';
import { Helper, sharedWasm, take } from './copy-on-write-support.js';
import { ready, until } from './loop-support.js';

const PAGE = 4096;
const PAGES = 4096;
/** So slow that its background leaves the pages to their writer. */
const NEVER = { bytesPerSecond: 1 };
const POLL = 'loop-before-poll';
/** Of one thread, before the loop follows it. */
const FIRST_FAULTS = 8;
/** Longer than the loop waits until it looks where a thread is (1 ms, more after it went in vain), or lets go. */
const MOMENT_MS = 20;

function pin(tid: number, processor: string): void {
  const { status, stderr } = spawnSync('taskset', ['-c', '-p', processor, String(tid)], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  assert.equal(allowedProcessors(tid), processor);
}

function loopThread(): number {
  const loops = readdirSync('/proc/self/task').filter((tid) => threadName(tid) === 'uffd-loop');
  assert.equal(loops.length, 1);
  return Number(loops[0]);
}

/** First and last of those that this process may use, and all of them: sched_getaffinity(2), which are online. */
function processors(): [first: string, last: string, all: string] {
  const own = kernelThreadId();
  const { stdout } = spawnSync('taskset', ['-c', '-p', String(own)], { encoding: 'utf8' });
  const all = stdout.slice(stdout.lastIndexOf(' ') + 1).trim();
  const numbers = all.split(/[,-]/);
  assert.ok(numbers.length >= 2, all);
  // As it is told of those that were let go, also where others are offline.
  spawnSync('taskset', ['-c', '-p', all, String(own)]);
  return [numbers[0]!, numbers.at(-1)!, allowedProcessors(own)];
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, MOMENT_MS);
}

/** First touches, each of another page. */
class Pages {
  private next = 0;
  constructor(private readonly touchPage: (page: number) => void) {}

  touch(count: number): void {
    for (let i = 0; i < count; i++) {
      assert.ok(this.next < PAGES);
      this.touchPage(this.next++);
    }
  }
}

interface Touched {
  pages: Pages;
  end: () => void;
}

function snapshotted(): Touched & { region: Region; snapshot: Snapshot } {
  const region = Region.allocate({ bytes: PAGES * PAGE, hugePages: 'never' });
  region.bytes.fill(1);
  const snapshot = take(region, 'loop', NEVER);
  // Pages next to one that was written are copied with it.
  const pages = new Pages((page) => (region.bytes[((page * 1999) % PAGES) * PAGE] = 2));
  return { pages, region, snapshot, end: () => snapshot.close() };
}

async function lazilyRestored(): Promise<Touched> {
  const directory = mkdtempSync(path.join(tmpdir(), 'uffd-placement-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  const saved = Region.allocate({ bytes: PAGES * PAGE, hugePages: 'never' });
  for (let page = 0; page < PAGES; page++) saved.bytes[page * PAGE] = 1 + (page % 200);
  const snapshot = Snapshot.take(saved);
  await snapshot.save(path.join(directory, 'file'));
  const file = await SnapshotFile.open(path.join(directory, 'file'));
  const region = Region.allocate({ bytes: PAGES * PAGE, hugePages: 'never' });
  const restore = file.restore(region, { lazy: true, resolver: 'loop', ...NEVER });
  const pages = new Pages((index) => {
    const page = (index * 1999) % PAGES;
    assert.equal(region.bytes[page * PAGE], 1 + (page % 200));
  });
  return { pages, end: () => restore.close() };
}

function untilTouched(pages: Pages, condition: () => boolean): void {
  do pages.touch(1);
  while (!condition());
}

/** It stays beside a thread that runs on one processor, goes to another one with it, and lets go afterwards. */
export async function follows(kind: string): Promise<void> {
  const [first, last, all] = processors();
  const own = kernelThreadId();
  const { pages, end } = kind === 'snapshot' ? snapshotted() : await lazilyRestored();
  const loop = loopThread();
  assert.equal(allowedProcessors(loop), all, 'before the first fault');
  for (const processor of [first, last, first]) {
    pin(own, processor);
    pages.touch(FIRST_FAULTS);
    pause();
    untilTouched(pages, () => allowedProcessors(loop) === processor);
    until(() => allowedProcessors(loop) === all);
  }
  ready();
  end();
}

/** It does not go where the thread that took the snapshot might not run. */
export function staysWhereItMayRun(): void {
  const [first, last] = processors();
  const own = kernelThreadId();
  pin(own, first);
  const { pages, snapshot, end } = snapshotted();
  const loop = loopThread();
  assert.equal(allowedProcessors(loop), first);
  pin(own, last);
  for (let i = 0; i < 5; i++) {
    pause();
    pages.touch(10);
    assert.equal(allowedProcessors(loop), first);
  }
  until(() => snapshot.progress.waits === 50);
  ready();
  end();
}

/** Held nowhere: a filter may end a process that chooses processors, and who yields to others would wait behind them. */
export function isHeldNowhere(why: string): void {
  const [first, last, all] = processors();
  const own = kernelThreadId();
  if (why === 'nice') os.setPriority(0, 5);
  const { pages, snapshot, end } = snapshotted();
  const loop = loopThread();
  pin(own, last);
  pin(own, first);
  if (why === 'filter') assert.equal(testing().refuseIoctl('UFFDIO_MOVE', 1), 0);
  for (let i = 0; i < 5; i++) {
    pages.touch(10);
    assert.equal(allowedProcessors(loop), all);
    pause();
  }
  until(() => snapshot.progress.waits === 50);
  ready();
  end();
}

/** It lets go when no fault comes, whatever else keeps it busy. */
export function letsGoWhileBusy(): void {
  const [first, , all] = processors();
  const { pages, region, end } = snapshotted();
  const loop = loopThread();
  pin(kernelThreadId(), first);
  pages.touch(FIRST_FAULTS);
  untilTouched(pages, () => allowedProcessors(loop) === first);
  // Pages that are captured already, so that nothing but the event of it comes to the loop.
  do region.discard(0, PAGE);
  while (allowedProcessors(loop) !== all);
  ready();
  end();
}

/** Behind the thread beside which it is held, the faults of others would wait. */
export function followsOneThread(): void {
  const [first, last, all] = processors();
  const memory = sharedWasm(PAGES / 16);
  const bytes = new Uint8Array(memory.buffer).fill(1);
  const writer = new Helper({ role: 'writer', memories: [memory], offsets: [1001 * PAGE] });
  const snapshot = take(memory, 'loop', NEVER);
  const pages = new Pages((page) => (bytes[((page * 1999) % PAGES) * PAGE] = 2));
  const loop = loopThread();
  pin(writer.tid, last);
  pin(kernelThreadId(), first);
  pages.touch(FIRST_FAULTS);
  untilTouched(pages, () => allowedProcessors(loop) === first);
  writer.go();
  writer.untilDone(1);
  until(() => allowedProcessors(loop) === all);
  for (let i = 0; i < 5; i++) {
    pause();
    pages.touch(2 * FIRST_FAULTS);
    assert.equal(allowedProcessors(loop), all);
  }
  ready();
  snapshot.close();
}

/** A loop that is held and makes no progress may run anywhere again, and is held no more. */
export function isLetGoWhenItStandsStill(): void {
  const [first, , all] = processors();
  const own = kernelThreadId();
  const { pages, end } = snapshotted();
  const loop = loopThread();
  pin(own, first);
  pages.touch(FIRST_FAULTS - 1);
  // Not before it is past the barrier.
  pause();
  until(() => wchan(loop).includes('poll'));
  testing().closeBarrier(POLL);
  pages.touch(1);
  untilSomebodyWaitsAt(POLL);
  until(() => allowedProcessors(loop) === all);
  testing().openBarrier(POLL);
  // Nor would it be let go for good if it had not been held.
  for (let i = 0; i < 5; i++) {
    pause();
    pages.touch(10);
    assert.equal(allowedProcessors(loop), all);
  }
  ready();
  end();
}
