// What is left after many rounds, and after objects that were dropped. Each function runs in a process
// of its own, with --expose-gc (test 42).

import assert from 'node:assert/strict';
import { once } from 'node:events';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { Region, Userfaultfd } from '../../lib/index.js';
import { testing, untilSomebodyWaitsAt } from '../support/testing.js';
import {
  Bell,
  collectUntil,
  flagsOfRegisteredMemory,
  memory,
  resources,
  userfaultfdDescriptors,
  until,
  withoutWatchdog,
} from './loop-support.js';

const REGION_BYTES = 1 << 16;
/** What the heap of V8 and the C library may take for themselves, far below what 10,000 rounds would leave. In how
 * many mappings they do so is theirs too, and differs with the place the kernel gave the heap. */
const SLACK_KIB = 200_000;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    gc!();
    await turn();
  }
}

function openAndWrite(): { region: Region; uffd: Userfaultfd } {
  const region = Region.allocate({ bytes: REGION_BYTES });
  const uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  uffd.writeProtect(region);
  region.bytes[region.pageSize] = 1;
  return { region, uffd };
}

async function compareBeforeAndAfter(rounds: number, round: (i: number) => unknown): Promise<void> {
  for (let i = 0; i < 100; i++) await round(i);
  await settle();
  await untilNothingOpen();
  const before = { ...resources(), ...memory(), mappedBytes: testing().mappedBytes() };
  for (let i = 0; i < rounds; i++) await round(i);
  await settle();
  await untilNothingOpen();
  const after = { ...resources(), ...memory(), mappedBytes: testing().mappedBytes() };
  const said = `${JSON.stringify(before)} -> ${JSON.stringify(after)}`;
  assert.equal(after.descriptors, before.descriptors, said);
  assert.equal(after.threads, before.threads, said);
  // Exactly ours; what the garbage collector has not taken yet would count.
  assert.ok(after.mappedBytes <= before.mappedBytes, said);
  assert.ok(after.kib - before.kib <= SLACK_KIB, said);
  assert.ok(after.residentKib - before.residentKib <= SLACK_KIB, said);
}

async function untilNothingOpen(): Promise<void> {
  await collectUntil(() => resources().descriptorsInUse === 0 && resources().loops === 0);
  // The stack of a frame that ended may still show the collector one of our objects.
  for (let i = 0; i < 50 && testing().mappedBytes() > 0; i++) await settle();
}

export async function closed(): Promise<void> {
  await compareBeforeAndAfter(10_000, async (i) => {
    const { region, uffd } = openAndWrite();
    uffd.close();
    region.close();
    if (i % 100 === 0) {
      // These go with close(), not with the garbage collector.
      assert.deepEqual(userfaultfdDescriptors(), []);
      // A thread that was joined stays in /proc for a moment.
      until(() => resources().loops === 0);
      await turn();
    }
  });
}

export async function dropped(): Promise<void> {
  await compareBeforeAndAfter(300, async (i) => {
    openAndWrite();
    if (i % 50 === 49) await settle();
  });
}

export async function observed(): Promise<void> {
  await compareBeforeAndAfter(1000, async () => {
    const { region, uffd } = openAndWrite();
    for await (const event of uffd) {
      assert.equal(event.type, 'pagefault');
      break;
    }
    uffd.close();
    region.close();
  });
}

/** Events nobody reads must not hold what they name. */
export async function unregisteredOften(): Promise<void> {
  const uffd = Userfaultfd.open();
  const refs: WeakRef<Region>[] = [];
  for (let i = 0; i < 200; i++) {
    const region = Region.allocate({ bytes: 1 << 20 });
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
    region.bytes.fill(1);
    uffd.unregister(region);
    region.close();
    refs.push(new WeakRef(region));
    if (i % 20 === 0) await turn();
  }
  await settle();
  const alive = refs.filter((ref) => ref.deref() !== undefined).length;
  assert.ok(alive < 20, `${alive} of 200 closed regions are still held`);
  uffd.close();
}

export async function memoryOfClosedRegion(): Promise<void> {
  const mib = 256;
  const region = Region.allocate({ bytes: mib << 20 });
  const before = memory();
  region.bytes.fill(1);
  assert.ok(memory().residentKib - before.residentKib > (mib - 16) * 1024);
  region.close();
  for (let i = 0; i < 10; i++) await turn();
  const kept = memory().residentKib - before.residentKib;
  assert.ok(kept < (mib / 4) * 1024, `${Math.round(kept / 1024)} MiB are still there`);
  // Not before: the object itself must not be needed for that.
  assert.equal(region.byteLength, 0);
}

export async function failedRegister(): Promise<void> {
  await compareBeforeAndAfter(500, () => {
    const region = Region.allocate({ bytes: 1 });
    const uffd = Userfaultfd.open();
    uffd.register(region, 'missing');
    assert.throws(() => uffd.register(region, 'missing'), { code: 'ERR_UFFD_BUSY' });
    assert.throws(() => Userfaultfd.open({ userModeOnly: 'yes' as 'auto' }), {
      code: 'ERR_INVALID_ARG_VALUE',
    });
    uffd.close();
    region.close();
  });
}

// Memory that goes while it is armed (C6)

/** Nobody may inherit the protection: the loop is held, so that whoever faults stays asleep. */
async function writeNewMemory(): Promise<void> {
  withoutWatchdog();
  const buffers: (Uint8Array | Region)[] = [];
  for (let i = 0; i < 200; i++) {
    const region = Region.allocate({ bytes: REGION_BYTES });
    region.bytes.fill(2);
    buffers.push(region, new Uint8Array(REGION_BYTES).fill(2));
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
    buffers.push(new Uint8Array(memory.buffer).fill(2));
    if (i % 20 === 0) await turn();
  }
  assert.equal(buffers.length, 600);
}

export async function regionDropped(): Promise<void> {
  const uffd = Userfaultfd.open();
  const bell = new Bell(uffd);
  for (let i = 0; i < 50; i++) {
    const region =
      i % 2 === 0
        ? Region.allocate({ bytes: REGION_BYTES })
        : Region.from(new WebAssembly.Memory({ initial: 1, maximum: 1 }));
    uffd.register(region, ['missing', 'write-protect']);
    uffd.writeProtect(region);
  }
  await settle();
  // Armed memory stays with who armed it.
  assert.equal(uffd.registrations.length, 51);
  for (const { region } of uffd.registrations.slice(1)) {
    assert.equal(uffd.armedPages(region), region.byteLength / region.pageSize);
  }
  testing().closeBarrier('loop-before-read');
  await writeNewMemory();
  testing().openBarrier('loop-before-read');
  assert.deepEqual(await bell.eventsSoFar(), []);
}

export async function bothDropped(): Promise<void> {
  const refs: WeakRef<Region>[] = [];
  testing().closeBarrier('loop-before-poll');
  for (let i = 0; i < 50; i++) {
    const region =
      i % 2 === 0
        ? Region.allocate({ bytes: REGION_BYTES })
        : Region.from(new WebAssembly.Memory({ initial: 1, maximum: 1 }));
    const uffd = Userfaultfd.open();
    uffd.register(region, ['missing', 'write-protect']);
    uffd.writeProtect(region);
    refs.push(new WeakRef(region));
  }
  untilSomebodyWaitsAt('loop-before-poll');
  withoutWatchdog();
  // The last one may still be on the stack.
  await collectUntil(() => userfaultfdDescriptors().length <= 1);
  await collectUntil(() => refs.filter((ref) => ref.deref() !== undefined).length <= 1);
  assert.ok(flagsOfRegisteredMemory().length <= 1);
  await writeNewMemory();
}

/** The buffer alone is kept: it must go on to be memory, armed or not, when the rest is collected. */
export async function bufferKept(): Promise<void> {
  const { bytes, gone } = ((): { bytes: Uint8Array; gone: () => boolean } => {
    const region = Region.allocate({ bytes: REGION_BYTES });
    const uffd = Userfaultfd.open();
    uffd.register(region, ['missing', 'write-protect']);
    uffd.writeProtect(region);
    const weak = new WeakRef(region);
    return { bytes: region.bytes, gone: () => weak.deref() === undefined };
  })();
  await collectUntil(gone);
  await collectUntil(() => userfaultfdDescriptors().length === 0);
  bytes.fill(3);
  assert.ok(bytes.every((byte) => byte === 3));
  assert.equal(bytes.byteLength, REGION_BYTES);
}

/** In the addon there was a tracker already, and JavaScript did not get it any more. */
export async function terminatedWhileMaking(): Promise<void> {
  const makes = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { DirtyTracker, Region } = require(workerData);
    const region = Region.allocate({ bytes: 2 ** 20 });
    parentPort.postMessage('ready');
    for (;;) new DirtyTracker(region, { engine: 'wp-sync' }).close();`;
  for (let round = 0; round < 40; round++) {
    const worker = new Worker(makes, {
      eval: true,
      workerData: path.join(__dirname, '..', '..', 'lib', 'index.js'),
    });
    await once(worker, 'message');
    await worker.terminate();
  }
  await untilNothingOpen();
}
