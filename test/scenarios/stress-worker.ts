// A thread of the stress test: takes the lock in a page, counts, lets go, page after page.

import { isMainThread, workerData } from 'node:worker_threads';
import { Region, type RegionHandle } from '../../lib/index.js';

/** Of each page, in words: who has it, how often it was counted, and (its last) the same once more. */
export const WORD = { lock: 0, counter: 1 } as const;
/** Indexes into `control`. */
export const STRESS = { pass: 0, finished: 1, torn: 2, length: 3 } as const;
export const LAST_PASS = -1;

export interface StressOrder {
  /** The two areas: memory that is posted, or what names it. */
  areas: (Uint8Array | RegionHandle)[];
  pageSize: number;
  /** In a pass, after each page was visited once. */
  randomVisits: number;
  control: Int32Array;
  /** Of each page, how often it was counted, where no fault can come between. */
  ledger: Int32Array;
}

function visit(words: Int32Array, page: number, wordsPerPage: number, order: StressOrder): void {
  const first = page * wordsPerPage;
  const pause = new Int32Array(new SharedArrayBuffer(4));
  while (Atomics.compareExchange(words, first + WORD.lock, 0, 1) !== 0) Atomics.wait(pause, 0, 0, 0.05);
  const counter = words[first + WORD.counter]! + 1;
  const last = first + wordsPerPage - 1;
  if (words[last] !== counter - 1) Atomics.add(order.control, STRESS.torn, 1);
  words[first + WORD.counter] = counter;
  words[last] = counter;
  Atomics.add(order.ledger, page, 1);
  Atomics.store(words, first + WORD.lock, 0);
}

function passes(order: StressOrder): void {
  const { control, ledger, pageSize, randomVisits } = order;
  const regions: Region[] = [];
  const areas = order.areas.map((area) => {
    if (area instanceof Uint8Array) return new Int32Array(area.buffer);
    const region = Region.attach(area);
    regions.push(region);
    return new Int32Array(region.buffer, region.bytes.byteOffset, region.byteLength / 4);
  });
  const count = ledger.length;
  for (let pass = 0; ;) {
    Atomics.wait(control, STRESS.pass, pass);
    pass = Atomics.load(control, STRESS.pass);
    if (pass === LAST_PASS) break;
    const words = areas[pass % 2]!;
    const start = Math.floor(Math.random() * count);
    for (let i = 0; i < count; i++) visit(words, (start + i) % count, pageSize / 4, order);
    for (let i = 0; i < randomVisits; i++) {
      visit(words, Math.floor(Math.random() * count), pageSize / 4, order);
    }
    Atomics.add(control, STRESS.finished, 1);
  }
  for (const region of regions) region.close();
}

if (!isMainThread) passes(workerData as StressOrder);
