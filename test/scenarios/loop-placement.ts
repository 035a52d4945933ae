// On which processors the native loop of a copy-on-write snapshot, or of a lazy restore, may run. Each
// function runs in a process of its own (test 44).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { Region, Snapshot, SnapshotFile } from '../../lib/index.js';
import { allowedProcessors, kernelThreadId, testing, threadName } from '../support/testing.js';
import { Helper, sharedWasm, take } from './copy-on-write-support.js';
import { ready, until } from './loop-support.js';

const PAGE = 4096;
const PAGES = 4096;
/** So slow that its background leaves the pages to their writer. */
const NEVER = { bytesPerSecond: 1 };
const RESOLVE = 'loop-before-resolve';
/** Longer than the loop waits until it looks where a thread is: 1 ms, more after it went in vain. */
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

/** First and last of those that this process may use. */
function twoProcessors(): [string, string] {
  const all = allowedProcessors(kernelThreadId())
    .split(',')
    .flatMap((part) => {
      const [first, last = first] = part.split('-').map(Number) as [number, number?];
      return Array.from({ length: last - first + 1 }, (_, i) => String(first + i));
    });
  assert.ok(all.length >= 2 && all.length === availableParallelism());
  return [all[0]!, all.at(-1)!];
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, MOMENT_MS);
}

/** First touches, each of another page. */
class Pages {
  private next = 0;
  constructor(private readonly touchPage: (page: number) => void) {}

  touch(count: number): void {
    for (let i = 0; i < count; i++) this.touchPage(this.next++);
  }
}

function snapshotted(): { pages: Pages; snapshot: Snapshot } {
  const region = Region.allocate({ bytes: PAGES * PAGE, hugePages: 'never' });
  region.bytes.fill(1);
  const snapshot = take(region, 'loop', NEVER);
  // Pages next to one that was written are copied with it.
  return { pages: new Pages((page) => (region.bytes[((page * 1999) % PAGES) * PAGE] = 2)), snapshot };
}

async function lazilyRestored(): Promise<Pages> {
  const directory = mkdtempSync(path.join(tmpdir(), 'uffd-placement-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  const saved = Region.allocate({ bytes: PAGES * PAGE, hugePages: 'never' });
  for (let page = 0; page < PAGES; page++) saved.bytes[page * PAGE] = 1 + (page % 200);
  const snapshot = Snapshot.take(saved);
  await snapshot.save(path.join(directory, 'file'));
  const file = await SnapshotFile.open(path.join(directory, 'file'));
  const region = Region.allocate({ bytes: PAGES * PAGE, hugePages: 'never' });
  file.restore(region, { lazy: true, resolver: 'loop', ...NEVER });
  return new Pages((index) => {
    const page = (index * 1999) % PAGES;
    assert.equal(region.bytes[page * PAGE], 1 + (page % 200));
  });
}

/** It stays beside a thread that runs on one processor, and goes to another one with it. */
export async function follows(kind: string): Promise<void> {
  const [first, last] = twoProcessors();
  const own = kernelThreadId();
  const all = allowedProcessors(own);
  const pages = kind === 'snapshot' ? snapshotted().pages : await lazilyRestored();
  const loop = loopThread();
  assert.equal(allowedProcessors(loop), all, 'before the first fault');
  for (const processor of [first, last, first]) {
    pin(own, processor);
    pause();
    pages.touch(2);
    until(() => allowedProcessors(loop) === processor);
    pause();
    pages.touch(10);
    assert.equal(allowedProcessors(loop), processor);
  }
  ready();
  process.exit(0);
}

/** It does not go where the thread that took the snapshot might not run. */
export function staysWhereItMayRun(): void {
  const [first, last] = twoProcessors();
  const own = kernelThreadId();
  pin(own, first);
  const { pages, snapshot } = snapshotted();
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
  snapshot.close();
}

/** A filter may end a process that chooses processors: none is chosen, and the faults are ended. */
export function choosesNoneUnderAFilter(): void {
  const own = kernelThreadId();
  const all = allowedProcessors(own);
  pin(own, twoProcessors()[0]);
  pin(own, all);
  assert.equal(testing().refuseIoctl('UFFDIO_MOVE', 1), 0);
  const { pages, snapshot } = snapshotted();
  const loop = loopThread();
  for (let i = 0; i < 5; i++) {
    pages.touch(10);
    assert.equal(allowedProcessors(loop), all);
    pause();
  }
  until(() => snapshot.progress.waits === 50);
  ready();
  snapshot.close();
}

/** A loop that is held where it gets no processor may run anywhere before anybody gives it up. */
export function isLetGoWhenItStandsStill(): void {
  const [first] = twoProcessors();
  const all = allowedProcessors(kernelThreadId());
  const memory = sharedWasm(64);
  const bytes = new Uint8Array(memory.buffer).fill(1);
  const writer = new Helper({ role: 'writer', memories: [memory], offsets: [17 * PAGE] });
  const snapshot = take(memory, 'loop', NEVER);
  const loop = loopThread();
  pin(kernelThreadId(), first);
  bytes[40 * PAGE] = 1;
  bytes[80 * PAGE] = 1;
  until(() => allowedProcessors(loop) === first);
  testing().closeBarrier(RESOLVE);
  writer.goAndWait('loop');
  until(() => allowedProcessors(loop) === all);
  testing().openBarrier(RESOLVE);
  writer.untilDone(1);
  // It follows as before.
  pause();
  bytes[120 * PAGE] = 1;
  bytes[160 * PAGE] = 1;
  until(() => allowedProcessors(loop) === first);
  ready();
  snapshot.close();
}
