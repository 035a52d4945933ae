// How long a thread waits for its fault: the native loop, and JavaScript in a Worker, beside loops in C.

import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { Region, Userfaultfd } from '../../lib/index.js';
import type { Bench, BenchCase, Side } from '../harness/bench.js';
import { MIB, PAGE, populate } from '../harness/pattern.js';
import { timeEach } from '../harness/time-each.js';
import type { AnswerData } from '../workers/answer.js';
import type { ServeFaultsData } from '../workers/serve-faults.js';

/** Faults of a round. */
const FAULTS = 500;
const ROUNDS = 20;
/** Of a Worker, until its code is compiled as it is in a program that has served for a while. */
const WARM_UP = 8;
/** Rounds of a Worker take new pages each time. */
const SERVED_BYTES = 256 * MIB;

const benchCase: BenchCase = {
  title: 'From the touch of a page to the next instruction, another thread ending the fault',
  deadlineSeconds: 300,
  needsBytes: 2 * SERVED_BYTES,

  async run(bench) {
    const faults = bench.count(FAULTS);
    await writeProtectRow(bench, faults);
    await missingRow(bench, faults);
  },
};

async function writeProtectRow(bench: Bench, faults: number): Promise<void> {
  using region = Region.allocate({ bytes: faults * PAGE, hugePages: 'never' });
  const { bytes } = region;
  populate(bytes);
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect');
  const asleep = await bench.program('fault_loop', 'write-protect', 'sleeps', faults);
  const spinning = await bench.program('fault_loop', 'write-protect', 'spins', faults);
  await bench.row({
    name: 'Write-protect faults, native loop',
    rounds: ROUNDS,
    sides: {
      package: () => {
        uffd.writeProtect(region);
        return timeEach(faults, (page) => (bytes[page * PAGE] = 2));
      },
      'C, asleep': () => asleep.round('touch'),
    },
    targets: [{ ratio: ['package', 'C, asleep'], atMost: 1.15 }],
  });
  await bench.row({
    name: 'Write-protect faults, a loop in C that spins',
    rounds: ROUNDS,
    sides: { 'C, spinning': () => spinning.round('touch') },
  });
  await spinning.close();
}

async function missingRow(bench: Bench, faults: number): Promise<void> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'userfaultfd-bench-'));
  const file = path.join(directory, 'pages');
  try {
    const bytes = bench.bytes(SERVED_BYTES);
    writeFileSync(file, Buffer.alloc(bytes, 1));
    const fromMemory = await serve(bytes, undefined);
    const fromFile = await serve(bytes, file);
    using native = nativelyServed(faults);
    const messages = await answering();
    const bare = await bench.program('fault_loop', 'missing', 'sleeps', faults);
    await bench.row({
      name: 'Missing pages, native loop and JavaScript in a Worker',
      rounds: 2 * ROUNDS,
      warmUp: WARM_UP,
      sides: {
        native: native.touch,
        'JavaScript in a Worker': () => fromMemory.touch(faults),
        'JavaScript in a Worker, reading a file': () => fromFile.touch(faults),
        'no fault: a message to a Worker': () => messages.send(faults),
        'C, asleep': () => bare.round('touch'),
      },
      targets: [
        { ratio: ['native', 'C, asleep'], atMost: 1.15 },
        { ratio: ['JavaScript in a Worker', 'C, asleep'], atMost: 1.8 },
      ],
      ratios: [
        ['JavaScript in a Worker, reading a file', 'C, asleep'],
        ['JavaScript in a Worker', 'no fault: a message to a Worker'],
      ],
      notes: [
        'a message to a Worker, which answers through shared memory, is what Node.js needs to have a Worker run anything',
      ],
    });
    await Promise.all([fromMemory.close(), fromFile.close(), messages.close()]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function nativelyServed(faults: number): { touch: Side } & Disposable {
  const region = Region.allocate({ bytes: faults * PAGE, hugePages: 'never' });
  const source = Region.allocate({ bytes: faults * PAGE, hugePages: 'never' });
  populate(source.bytes);
  const uffd = Userfaultfd.open({ features: ['EVENT_REMOVE', 'THREAD_ID'] });
  uffd.register(region, 'missing', { source });
  const { bytes } = region;
  let sum = 0;
  return {
    touch: () => {
      uffd.unregister(region);
      region.discard();
      uffd.register(region, 'missing', { source });
      return timeEach(faults, (page) => (sum += bytes[page * PAGE]!));
    },
    [Symbol.dispose]: () => {
      uffd.close();
      source.close();
      region.close();
    },
  };
}

/** The sender sleeps until its answer is there, as a thread in a fault does. */
async function answering(): Promise<{ send(count: number): Float64Array; close(): Promise<unknown> }> {
  const answers = new Int32Array(new SharedArrayBuffer(4));
  const workerData: AnswerData = { answers };
  const worker = new Worker(path.join(__dirname, '..', 'workers', 'answer.js'), { workerData });
  await once(worker, 'message');
  return {
    send: (count) =>
      timeEach(count, () => {
        const before = Atomics.load(answers, 0);
        worker.postMessage(0);
        Atomics.wait(answers, 0, before);
      }),
    close: () => worker.terminate(),
  };
}

interface Served {
  touch(faults: number): Float64Array;
  close(): Promise<void>;
}

async function serve(bytes: number, file: string | undefined): Promise<Served> {
  const region = Region.allocate({ bytes, hugePages: 'never' });
  const workerData: ServeFaultsData = { handle: region.handle, file };
  const worker = new Worker(path.join(__dirname, '..', 'workers', 'serve-faults.js'), { workerData });
  await once(worker, 'message');
  const view = region.bytes;
  let next = 0;
  let sum = 0;
  return {
    touch: (faults) => {
      if ((next + faults) * PAGE > bytes) throw new Error('every page was touched');
      const times = timeEach(faults, (page) => (sum += view[(next + page) * PAGE]!));
      next += faults;
      return times;
    },
    close: async () => {
      await worker.terminate();
      region.close();
    },
  };
}

export default benchCase;
