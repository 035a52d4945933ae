// Threads bounce pages between two areas, with a lock and a counter in each page; after the kernel's
// uffd-stress. Test 91 runs it for a moment, `npm run stress` for as long as one likes.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { PageFault, Region, Userfaultfd, type UffdError } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { allocate, HUGE, kindOf, NEVER_MS } from './conformance-support.js';
import { collectUntil, memory, pages, resources, sharedRegion } from './loop-support.js';
import { LAST_PASS, STRESS, WORD, type StressOrder } from './stress-worker.js';

const THREADS = 2;
/** Across the whole run, after it is warm. */
const MOST_GROWTH_KIB = 64 * 1024;

interface Run {
  areas: [Region, Region];
  pageSize: number;
  count: number;
  uffd: Userfaultfd;
  handler: boolean;
  /** What the native loop fills pages from. */
  staging: Region;
  order: StressOrder;
  workers: Worker[];
  passes: number;
  faults: number;
}

function prepare(kind: string, handler: boolean): Run {
  const hugetlb = kind !== 'wasm' && kindOf(kind).hugetlb;
  const count = hugetlb ? 4 : 64;
  const area = (): Region =>
    kind === 'wasm' ? sharedRegion(count * 4096) : allocate(kind, count, { shared: true });
  const areas: [Region, Region] = [area(), area()];
  const { pageSize, byteLength } = areas[0];
  const order: StressOrder = {
    areas: areas.map((region) => (kind === 'wasm' ? region.bytes : region.handle)),
    pageSize,
    randomVisits: 2 * count,
    control: new Int32Array(new SharedArrayBuffer(STRESS.length * 4)),
    ledger: new Int32Array(new SharedArrayBuffer(count * 4)),
  };
  const workers = Array.from(
    { length: THREADS },
    () => new Worker(path.join(__dirname, 'stress-worker.js'), { workerData: order }),
  );
  return {
    areas,
    pageSize,
    count,
    uffd: Userfaultfd.open({ features: ['EVENT_REMOVE', 'WP_UNPOPULATED', 'WP_HUGETLBFS_SHMEM'] }),
    handler,
    staging: Region.allocate({ bytes: byteLength }),
    order,
    workers,
    passes: 0,
    faults: 0,
  };
}

/** Ends what the threads wait for. */
async function serve(run: Run, signal: AbortSignal): Promise<void> {
  try {
    for await (const event of run.uffd.events({ signal })) {
      assert.ok(event instanceof PageFault);
      run.faults++;
      if (!run.handler || event.resolved) continue;
      const from = run.areas[0] === event.region ? run.areas[1] : run.areas[0];
      const at = event.pageOffset;
      const page = run.passes === 1 ? run.staging : from;
      const bytes = event.reason === 'missing' ? page.bytes.subarray(at, at + run.pageSize) : undefined;
      // Another call may have ended it meanwhile.
      await event.resolve(bytes).catch((error: unknown) => {
        assert.equal((error as UffdError).code, 'ERR_UFFD_FAULT_ENDED');
      });
    }
  } catch (error) {
    assert.equal((error as Error).name, 'AbortError', String(error));
  }
}

/** All pages go from one area to the other, while the threads count in them. */
async function bounce(run: Run): Promise<void> {
  const { uffd, order, staging, count, pageSize } = run;
  const pass = ++run.passes;
  const to = run.areas[pass % 2]!;
  const from = run.areas[(pass + 1) % 2]!;
  // Before the first pass nothing is anywhere.
  if (pass > 1) staging.bytes.set(from.bytes);
  const registration = uffd.register(
    to,
    ['missing', 'write-protect'],
    run.handler ? { resolve: 'handler', deadlineMs: NEVER_MS } : { source: staging },
  );
  uffd.writeProtect(to);
  Atomics.store(order.control, STRESS.finished, 0);
  Atomics.store(order.control, STRESS.pass, pass);
  Atomics.notify(order.control, STRESS.pass);
  for (let seen = 0; Atomics.load(order.control, STRESS.finished) < THREADS;) {
    await pause(1);
    // Armed again only as fast as the threads come along.
    const visits = order.ledger.reduce((sum, each) => sum + each, 0);
    if (visits - seen < 16) continue;
    seen = visits;
    const page = Math.floor(Math.random() * count);
    uffd.writeProtect(to, pages(to, page, Math.min(4, count - page)));
    // Sometimes somebody else is there before the fault's own end.
    const at = Math.floor(Math.random() * count) * pageSize;
    try {
      uffd.copy(to, at, staging.bytes.subarray(at, at + pageSize), { writeProtect: true });
    } catch (error) {
      assert.equal((error as UffdError).code, 'EEXIST');
    }
  }
  registration.close();
  check(run, to);
  if (pass > 1) from.discard();
}

function check({ order, count, pageSize, passes }: Run, area: Region): void {
  assert.equal(order.control[STRESS.torn], 0, 'no page was seen in two states');
  const words = new Int32Array(area.buffer, area.bytes.byteOffset, area.byteLength / 4);
  for (let page = 0; page < count; page++) {
    const first = (page * pageSize) / 4;
    const found = [WORD.lock, WORD.counter, pageSize / 4 - 1].map((word) => words[first + word]);
    const counted = order.ledger[page]!;
    assert.deepEqual(found, [0, counted, counted], `page ${page} after pass ${passes}`);
  }
}

async function runFor(kind: string, handler: boolean, milliseconds: number): Promise<Run> {
  const run = prepare(kind, handler);
  const consumer = new AbortController();
  const serving = serve(run, consumer.signal);
  const end = performance.now() + milliseconds;
  do await bounce(run);
  while (performance.now() < end || run.passes < 2);
  Atomics.store(run.order.control, STRESS.pass, LAST_PASS);
  Atomics.notify(run.order.control, STRESS.pass);
  await Promise.all(run.workers.map((worker) => once(worker, 'exit')));
  consumer.abort();
  await serving;
  run.uffd.close();
  for (const region of [...run.areas, run.staging]) region.close();
  return run;
}

export async function stress(kind: string, resolve: string, milliseconds: string): Promise<void> {
  const handler = resolve === 'handler';
  // A huge page of zeros, for all there will be.
  const kept = kind.includes('hugetlb') ? HUGE : 0;
  // Once for what the process keeps.
  await runFor(kind, handler, 0);
  await collectUntil(() => testing().mappedBytes() === kept);
  const before = { ...resources(), ...memory() };
  const { passes, faults } = await runFor(kind, handler, Number(milliseconds));
  await collectUntil(() => testing().mappedBytes() === kept);
  await collectUntil(() => resources().threads <= before.threads);
  const after = { ...resources(), ...memory() };
  assert.equal(after.descriptors, before.descriptors);
  assert.equal(after.loops, before.loops);
  const growth = after.residentKib - before.residentKib;
  assert.ok(growth < MOST_GROWTH_KIB, `the process grew by ${growth} KiB`);
  assert.ok(faults > 0);
  console.log(JSON.stringify({ passes, faults }));
}
