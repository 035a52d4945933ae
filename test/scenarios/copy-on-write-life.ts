// How copy-on-write snapshots end, are limited, cancelled, watched and get along with others. Each
// function runs in a process of its own (test 64); `resolver` is 'loop' or 'in-thread'.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { subscribe } from 'node:diagnostics_channel';
import { DirtyTracker, Region, Snapshot, Userfaultfd } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import {
  assertEqualBytes,
  assertNoCapture,
  bytesOf,
  captureDescriptors,
  CLOSED,
  fillPages,
  Helper,
  releaseSweep,
  sharedWasm,
  take,
  takeAndHold,
  TORN,
} from './copy-on-write-support.js';
import { PAGE, pagesOf, WASM, WASM_PAGE } from './dirty-support.js';
import {
  collectUntil,
  eventually,
  flagsOfRegisteredMemory,
  memory as memoryUse,
  ready,
  resources,
} from './loop-support.js';

const MIB = 2 ** 20;
export const EXIT_CODE = 7;
/** So slow that it never gets past its first batch of pages. */
const NEVER = { bytesPerSecond: 1 };
const LIMIT = { code: 'ERR_UFFD_SNAPSHOT_LIMIT' };
const BUSY = { code: 'ERR_UFFD_BUSY' };

process.on('unhandledRejection', (reason) => {
  console.error('unhandledRejection', reason);
  process.exit(98);
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Larger than the first batch of the background. */
function filledRegion(): Region {
  const region = Region.allocate({ bytes: 4 * MIB });
  fillPages(region.bytes);
  return region;
}

function assertNothingArmed(): void {
  assertNoCapture();
  // What a tracker of the package has (wp-async) is registered, too; nobody waits for that.
  assert.deepEqual(flagsOfRegisteredMemory(), []);
}

// Ends (C2)

/** Each way of ending while the background never comes to its end. */
export async function end(resolver: string, how: string): Promise<void> {
  const region = filledRegion();
  const snapshot = take(region, resolver, NEVER);
  region.bytes[3 * MIB] = 9;
  assert.equal(snapshot.progress.faulted, 1);
  switch (how) {
    case 'close':
      ready();
      snapshot.close();
      assertNothingArmed();
      await assert.rejects(snapshot.ready, CLOSED);
      assert.throws(() => snapshot.read(), CLOSED);
      assert.throws(() => snapshot.progress, CLOSED);
      region.bytes.fill(5);
      return;
    case 'region':
      ready();
      region.close();
      assert.equal(snapshot.closed, true);
      assertNothingArmed();
      await assert.rejects(snapshot.ready, CLOSED);
      return;
    case 'exit':
      ready();
      process.exit(EXIT_CODE);
      break;
    case 'exitAwaited':
      void snapshot.ready;
      ready();
      setImmediate(() => process.exit(EXIT_CODE));
      return;
    case 'throw':
      ready();
      setImmediate(() => {
        throw new Error('thrown and not caught');
      });
      return;
    case 'signal':
      void snapshot.ready;
      ready();
      process.kill(process.pid, 'SIGTERM');
      return;
    default:
      // The natural end: nobody asked for `ready`.
      ready();
      process.exitCode = EXIT_CODE;
  }
}

/** The process lives for whoever waits. */
export function awaited(resolver: string): void {
  const region = filledRegion();
  const snapshot = take(region, resolver, { bytesPerSecond: 8 * MIB });
  process.exitCode = 99;
  snapshot.ready.then(
    () => (process.exitCode = EXIT_CODE),
    () => undefined,
  );
}

/** A snapshot and its memory that nobody holds. */
export async function dropped(resolver: string): Promise<void> {
  const refs: WeakRef<object>[] = [];
  for (let i = 0; i < 20; i++) {
    const memory = new WebAssembly.Memory({ initial: 16 });
    bytesOf(memory).fill(i);
    const snapshot = take(memory, resolver);
    bytesOf(memory).fill(i + 1);
    refs.push(new WeakRef(memory), new WeakRef(snapshot));
    if (i % 5 === 0) await turn();
  }
  await collectUntil(() => refs.filter((ref) => ref.deref() !== undefined).length <= 2);
  await collectUntil(() => captureDescriptors() <= 0 || flagsOfRegisteredMemory().length <= 1);
  // Nobody inherits a protection (C6).
  for (let i = 0; i < 200; i++) {
    bytesOf(new WebAssembly.Memory({ initial: 16 })).fill(1);
    new Uint8Array(MIB).fill(1);
  }
}

/** The Worker that took it ends, in one of its ways. */
export async function workerEnds(resolver: string, how: string): Promise<void> {
  const memory = sharedWasm(64);
  fillPages(bytesOf(memory));
  const owner = new Helper({ role: 'owner', memories: [memory], offsets: [0], resolver });
  bytesOf(memory)[3 * MIB] = 9;
  const exited = owner.event('exit');
  if (how === 'terminate') void owner.worker.terminate();
  else owner.worker.postMessage(how);
  await exited;
  await eventually(() => captureDescriptors() <= 0);
  assertNothingArmed();
  bytesOf(memory).fill(1);
}

// Limits

export async function limit(resolver: string): Promise<void> {
  const region = filledRegion();
  const before = Buffer.from(region.bytes);
  for (const options of [{ maxBytes: 0 }, { maxBytes: PAGE - 1 }, { maxBytes: 4 * MIB - 1 }]) {
    const snapshot = take(region, resolver, options);
    await assert.rejects(snapshot.ready, { ...LIMIT, message: /maxBytes/, hint: /maxBytes/ });
    assert.throws(() => snapshot.read(0, PAGE), LIMIT);
    assert.throws(() => snapshot.diff(), LIMIT);
    assert.throws(() => snapshot.restore(), LIMIT);
    await assert.rejects(snapshot.ready, LIMIT);
    assert.ok(snapshot.progress.bytes <= options.maxBytes);
    assertNothingArmed();
    assertEqualBytes(region.bytes, before, 'the memory');
    region.bytes[5] = 9;
    region.bytes[5] = before[5]!;
    snapshot.close();
  }
  // Exactly enough, and pages of zeros are free.
  const zeros = Region.allocate({ bytes: 8 * MIB });
  zeros.bytes.fill(0);
  const snapshot = take([region, zeros], resolver, { maxBytes: 4 * MIB });
  await snapshot.ready;
  assert.equal(snapshot.progress.bytes, 4 * MIB);
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
}

/** A writer uses up what may be kept while the background waits for its rate. */
export async function limitReachedByWriter(resolver: string): Promise<void> {
  const region = filledRegion();
  const snapshot = take(region, resolver, { ...NEVER, maxBytes: 3 * MIB });
  const settled = assert.rejects(snapshot.ready, LIMIT);
  for (let at = 4 * MIB - PAGE; at > 0; at -= PAGE) region.bytes[at] = 9;
  await settled;
  assertNothingArmed();
  assert.equal(region.bytes[PAGE], 9);
  assert.throws(() => snapshot.read(0, 1), LIMIT);
}

/** A page is lost while the background waits for its rate. */
export async function lostWhileSlow(resolver: string): Promise<void> {
  const region = filledRegion();
  const snapshot = take(region, resolver, NEVER);
  const settled = assert.rejects(snapshot.ready, TORN);
  assert.equal(testing().giveBack(region.bytes.subarray(3 * MIB, 4 * MIB), 4), undefined);
  await settled;
  assertNothingArmed();
}

/** The rate is of bytes that are copied: holes cost nothing. */
export async function rateOfHoles(resolver: string): Promise<void> {
  const region = Region.allocate({ bytes: 1024 * MIB });
  for (let page = 0; page < 16; page++) region.bytes[page * 64 * MIB] = 1;
  const snapshot = take(region, resolver, { bytesPerSecond: MIB });
  await snapshot.ready;
  assert.equal(snapshot.progress.bytes, 16 * PAGE);
}

// Cancelled

export async function aborted(resolver: string): Promise<void> {
  const region = filledRegion();
  const reason = new Error('changed my mind');
  assert.throws(() => take(region, resolver, { signal: AbortSignal.abort(reason) }), {
    name: 'AbortError',
    code: 'ABORT_ERR',
    cause: reason,
  });
  assertNothingArmed();
  const controller = new AbortController();
  const snapshot = take(region, resolver, { ...NEVER, signal: controller.signal });
  const settled = assert.rejects(snapshot.ready, { name: 'AbortError', code: 'ABORT_ERR', cause: reason });
  controller.abort(reason);
  assert.equal(snapshot.closed, true);
  assertNothingArmed();
  await settled;
  assert.throws(() => snapshot.read(), CLOSED);
  // After the end it means nothing.
  const late = new AbortController();
  const whole = take(region, resolver, { signal: late.signal });
  await whole.ready;
  late.abort();
  assert.equal(whole.closed, false);
  assert.equal(whole.read(0, 1)[0], region.bytes[0]);
}

/** Nobody looks at `ready`, whatever becomes of it. */
export async function ignoredRejections(resolver: string): Promise<void> {
  const region = filledRegion();
  take(region, resolver, { maxBytes: 1 });
  await turn();
  region.bytes.fill(1);
  const closed = take(filledRegion(), resolver, NEVER);
  void closed.ready;
  closed.close();
  const controller = new AbortController();
  void take(filledRegion(), resolver, { ...NEVER, signal: controller.signal }).ready;
  controller.abort();
  await new Promise((resolve) => setTimeout(resolve, 20));
}

// Watched

export async function progress(resolver: string): Promise<void> {
  const region = filledRegion();
  const pages = region.byteLength / PAGE;
  region.bytes.fill(0, 0, 100 * PAGE);
  const snapshot = takeAndHold(region, resolver);
  assert.deepEqual(snapshot.progress, {
    swept: 0,
    faulted: 0,
    bytes: 0,
    waits: 0,
    totalWaitMs: 0,
    longestWaitMs: 0,
  });
  // Downwards: a writer that goes upwards is given several pages at a time.
  for (let page = 109; page >= 90; page--) region.bytes[page * PAGE] = 9;
  // The loop counts a wait after its end.
  await eventually(() => snapshot.progress.waits === 20);
  const { longestWaitMs, totalWaitMs, ...counts } = snapshot.progress;
  assert.deepEqual(counts, { swept: 0, faulted: 20, bytes: 10 * PAGE, waits: 20 });
  assert.ok(longestWaitMs > 0 && longestWaitMs <= totalWaitMs && longestWaitMs >= totalWaitMs / 20);
  releaseSweep();
  await snapshot.ready;
  assert.equal(snapshot.progress.swept, pages - 20);
  assert.equal(snapshot.progress.bytes, (pages - 100) * PAGE);
  const copied = Snapshot.take(region, { mode: 'copy' });
  assert.equal(copied.progress.swept + copied.progress.waits, 0);
}

export async function channels(resolver: string): Promise<void> {
  const seen: [string, Snapshot, unknown][] = [];
  for (const name of ['taken', 'ready', 'failed']) {
    subscribe(`userfaultfd:snapshot:${name}`, (message) => {
      const { snapshot, error } = message as { snapshot: Snapshot; error?: unknown };
      seen.push([name, snapshot, error]);
    });
  }
  const region = filledRegion();
  const good = take(region, resolver);
  await good.ready;
  await turn();
  good.close();
  const failing = take(region, resolver, { maxBytes: 1 });
  await assert.rejects(failing.ready, LIMIT);
  await turn();
  const copied = Snapshot.take(region, { mode: 'copy' });
  assert.deepEqual(
    seen.map(([name]) => name),
    ['taken', 'ready', 'taken', 'failed', 'taken'],
  );
  assert.deepEqual(
    seen.map(([, snapshot]) => snapshot),
    [good, good, failing, failing, copied],
  );
  assert.equal((seen[3]![2] as NodeJS.ErrnoException).code, LIMIT.code);
}

/** Whoever hears of it has a whole object. */
export async function usedWhenTaken(resolver: string): Promise<void> {
  const region = filledRegion();
  let closeIt = false;
  let heard: Promise<void> | undefined;
  subscribe('userfaultfd:snapshot:taken', (message) => {
    const { snapshot } = message as { snapshot: Snapshot };
    heard = snapshot.ready;
    if (closeIt) snapshot.close();
  });
  for (const options of [{ mode: 'copy' }, { mode: 'copy-on-write', resolver }] as const) {
    const snapshot = Snapshot.take(region, options as object);
    assert.ok(heard instanceof Promise);
    assert.equal(heard, snapshot.ready);
    await heard;
    snapshot.close();
  }
  closeIt = true;
  const snapshot = take(region, resolver);
  assert.equal(snapshot.closed, true);
  await assert.rejects(snapshot.ready, CLOSED);
  assertNothingArmed();
}

// With others

/** A tracker begins while pages are captured: the capture is finished first, however slow it was to be. */
export async function trackerMeanwhile(resolver: string): Promise<void> {
  const region = filledRegion();
  const before = Buffer.from(region.bytes);
  const snapshot = take(region, resolver, NEVER);
  region.bytes[3 * MIB] = 9;
  using tracker = new DirtyTracker(region);
  assert.equal(tracker.collect().isEmpty, true);
  await snapshot.ready;
  region.bytes[2 * MIB] = 9;
  assert.deepEqual(pagesOf(tracker.collect()), [(2 * MIB) / PAGE]);
  assert.deepEqual(pagesOf(snapshot.diff()), [(2 * MIB) / PAGE, (3 * MIB) / PAGE]);
  snapshot.restore();
  assertEqualBytes(region.bytes, before, 'the memory');
  assert.deepEqual(pagesOf(tracker.collect()), [(2 * MIB) / PAGE, (3 * MIB) / PAGE]);
}

/** What has the memory already keeps it. */
export function busy(resolver: string): void {
  const region = filledRegion();
  {
    using tracker = new DirtyTracker(region);
    assert.throws(() => take(region, resolver), BUSY);
    region.bytes[0] = 9;
    assert.deepEqual(pagesOf(tracker.collect()), [0], 'the attempt cost nothing');
    using automatic = Snapshot.take(region);
    assert.equal(automatic.mode, 'copy');
  }
  {
    using uffd = Userfaultfd.open();
    uffd.register(region, 'write-protect');
    assert.throws(() => take([Region.allocate({ bytes: PAGE }), region], resolver), BUSY);
    assert.equal(captureDescriptors(), 1, 'that of uffd');
  }
  assert.throws(() => take([region, region], resolver), BUSY);
  assertNothingArmed();
  const snapshot = take(region, resolver, NEVER);
  using uffd = Userfaultfd.open();
  assert.throws(() => uffd.register(region, 'write-protect'), BUSY);
  assert.equal(snapshot.read(0, 1)[0], 9);
  region.bytes[3 * MIB] = 1;
  assert.deepEqual(pagesOf(snapshot.diff()), [(3 * MIB) / PAGE]);
}

/** A second snapshot of the same memory while the first is captured. */
export async function second(resolver: string): Promise<void> {
  const region = filledRegion();
  const before = Buffer.from(region.bytes);
  const first = take(region, resolver, NEVER);
  region.bytes[3 * MIB]! ^= 255;
  const between = Buffer.from(region.bytes);
  using automatic = Snapshot.take(region);
  region.bytes[2 * MIB]! ^= 255;
  await Promise.all([first.ready, automatic.ready]);
  assertEqualBytes(first.read(), before, 'the first');
  assertEqualBytes(automatic.read(), between, 'the second');
  automatic.restore();
  assertEqualBytes(region.bytes, between, 'back to the second');
  first.restore();
  assertEqualBytes(region.bytes, before, 'back to the first');
}

/** A second mapping of memory that is captured: the capture is finished first, for its writes are not seen (B7). */
export async function aliasMeanwhile(resolver: string): Promise<void> {
  const region = Region.allocate({ bytes: 4 * MIB, backing: 'memfd' });
  fillPages(region.bytes);
  const before = Buffer.from(region.bytes);
  const snapshot = take(region, resolver, NEVER);
  const alias = region.alias();
  alias.bytes.fill(7);
  await snapshot.ready;
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
  assert.throws(() => take(region, resolver), { code: 'ERR_INVALID_ARG_VALUE', message: /aliased/ });
  alias.close();
}

/** Where no scan can tell whether all stayed protected, nothing is begun that could only fail. */
export function withoutScan(resolver: string): void {
  assert.equal(testing().refuseIoctl('PAGEMAP_SCAN', 1), 0);
  const region = filledRegion();
  assert.throws(() => take(region, resolver), { code: 'EPERM', syscall: 'ioctl(PAGEMAP_SCAN)' });
  assertNothingArmed();
}

/** Children are spawned and the process looks at itself while pages are captured. */
export function children(resolver: string): void {
  const memory = sharedWasm(64);
  fillPages(bytesOf(memory));
  const before = Buffer.from(bytesOf(memory));
  const snapshot = take(memory, resolver, NEVER);
  const { stdout } = spawnSync('echo', ['hello']);
  assert.equal(String(stdout), 'hello\n');
  bytesOf(memory).fill(1);
  assertEqualBytes(snapshot.read(), before, 'the snapshot');
}

// What is left

export async function leaks(resolver: string): Promise<void> {
  const rounds = Number(process.env['UFFD_COW_LEAK_ROUNDS'] ?? 1000);
  const region = Region.allocate({ bytes: 16 * WASM_PAGE });
  region.bytes.fill(1);
  const round = async (i: number): Promise<void> => {
    const snapshot = take(region, resolver, i % 5 === 0 ? { maxBytes: PAGE } : {});
    region.bytes[(i % (16 * WASM)) * PAGE] = i;
    if (i % 3 === 0) await snapshot.ready.catch(() => undefined);
    snapshot.close();
  };
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 5; i++) {
      gc!();
      await turn();
    }
    await eventually(() => {
      const { loops, sweeps } = resources();
      return loops === 0 && sweeps === 0;
    });
  };
  const now = (): object => {
    const { descriptors, threads } = resources();
    return {
      descriptors,
      threads,
      registered: flagsOfRegisteredMemory().length,
      mapped: testing().mappedBytes(),
    };
  };
  for (let i = 0; i < 50; i++) await round(i);
  await settle();
  const before = now();
  const { residentKib } = memoryUse();
  for (let i = 0; i < rounds; i++) await round(i);
  await settle();
  assert.deepEqual(now(), before);
  assert.ok(memoryUse().residentKib - residentKib < 100_000);
}

/** After the package's own listener has let every writer go. */
export function exitListenerReads(resolver: string): void {
  const region = filledRegion();
  const before = Buffer.from(region.bytes);
  const snapshot = take(region, resolver, NEVER);
  process.on('exit', () => {
    // Ours came first and let everybody go: writes are not seen any more.
    region.bytes.fill(0, 3 * MIB);
    try {
      assertEqualBytes(snapshot.read(), before, 'the snapshot');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== TORN.code) {
        console.error(error);
        process.exitCode = 97;
      }
    }
  });
}
