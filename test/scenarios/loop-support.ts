// What the scenarios of the fault loop, of endings, of releasing and of leaks share.

import { readdirSync, readFileSync, readlinkSync, writeSync } from 'node:fs';
import { once } from 'node:events';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { Region, type Userfaultfd, type UffdEvent, type PageFault } from '../../lib/index.js';
import { sleepersInFault, testing, threadName } from '../support/testing.js';

const WASM_PAGE = 65_536;

/** Tells the parent that the ending under test begins now. Not console.log: a Worker's goes through the main thread. */
export function ready(): void {
  writeSync(1, 'READY\n');
}

/** Memory that other threads can touch and that can be registered. */
export function sharedMemory(bytes: number): WebAssembly.Memory {
  const pages = Math.ceil(bytes / WASM_PAGE);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

export function sharedRegion(bytes: number): Region {
  return Region.from(sharedMemory(bytes));
}

/** The byte range of some pages. */
export function pages(region: Region, first: number, count = 1): { offset: number; length: number } {
  return { offset: first * region.pageSize, length: count * region.pageSize };
}

/** Blocks until `condition` holds; these threads have no event loop to spare. */
export function until(condition: () => boolean): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  while (!condition()) Atomics.wait(pause, 0, 0, 1);
}

/** The same, with the event loop running. */
export async function eventually(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Blocks until a thread, whose id is not known before, sleeps in a fault. */
export function untilSomebodySleeps(count = 1): number[] {
  until(() => sleepersInFault().length >= count);
  return sleepersInFault();
}

/** The watchdog would end a loop that a test holds for longer than a second. */
export function withoutWatchdog(): void {
  testing().disableNet('watchdog');
}

type TouchOptions = Partial<Pick<TouchOrder, 'offset' | 'stride' | 'count' | 'access' | 'value'>>;

/** What the Worker of loop-toucher.ts is told. */
export interface TouchOrder {
  bytes: Uint8Array;
  /** Bytes, of the first touch. */
  offset: number;
  stride: number;
  count: number;
  access: 'read' | 'write';
  value: number;
  control: Int32Array;
}

/** Indexes into `control`. */
export const CONTROL = { tid: 0, round: 1, touched: 2, finishedRound: 3, lastRead: 4, length: 5 } as const;
export const LAST_ROUND = -1;

/** Another thread, which touches pages of a shared region on command. */
export class Toucher {
  readonly worker: Worker;
  /** For other threads: see CONTROL. */
  readonly control = new Int32Array(new SharedArrayBuffer(CONTROL.length * 4));

  constructor(bytes: Uint8Array, options: TouchOptions = {}) {
    const workerData: TouchOrder = {
      bytes,
      offset: 0,
      stride: 1,
      count: 1,
      access: 'write',
      value: 1,
      ...options,
      control: this.control,
    };
    this.worker = new Worker(path.join(__dirname, 'loop-toucher.js'), { workerData });
    this.worker.unref();
    Atomics.wait(this.control, CONTROL.tid, 0);
  }

  /** The kernel's id of its thread. */
  get tid(): number {
    return this.control[CONTROL.tid]!;
  }

  /** How many touches were done since it began. */
  get touched(): number {
    return Atomics.load(this.control, CONTROL.touched);
  }

  get lastRead(): number {
    return Atomics.load(this.control, CONTROL.lastRead);
  }

  get finishedRound(): number {
    return Atomics.load(this.control, CONTROL.finishedRound);
  }

  /** Starts a round of touches. */
  go(round = 1): void {
    Atomics.store(this.control, CONTROL.round, round);
    Atomics.notify(this.control, CONTROL.round);
  }

  /** Blocks until that round is done. */
  untilDone(round = 1): void {
    until(() => this.finishedRound >= round);
  }

  /** Lets the thread end. */
  end(): void {
    this.go(LAST_ROUND);
  }

  /** Lets the thread end, and waits for that. */
  async ended(): Promise<void> {
    this.worker.ref();
    const exited = once(this.worker, 'exit');
    this.end();
    await exited;
  }
}

/** Marks a place in the order of events: what comes before it happened before it. */
export class Bell {
  readonly #uffd: Userfaultfd;
  readonly #region = Region.allocate({ bytes: 1 });
  #rings = 0;

  constructor(uffd: Userfaultfd) {
    this.#uffd = uffd;
    this.#region.bytes[0] = 1;
    uffd.register(this.#region, 'write-protect');
  }

  /** Everything that happened since the last call. */
  async eventsSoFar(): Promise<UffdEvent[]> {
    // Each ring writes another byte, so that an earlier one told late is not taken for this one.
    const offset = ++this.#rings % this.#region.pageSize;
    this.#uffd.writeProtect(this.#region);
    this.#region.bytes[offset] = 2;
    const events: UffdEvent[] = [];
    for await (const event of this.#uffd) {
      if (event.type !== 'pagefault' || event.region !== this.#region) events.push(event);
      else if (event.offset === offset || !this.#uffd.features.has('EXACT_ADDRESS')) break;
    }
    return events;
  }

  async faultsSoFar(): Promise<PageFault[]> {
    return (await this.eventsSoFar()).filter((event) => event.type === 'pagefault');
  }
}

export const FORKS = 200;

/** What the Workers of release-caller.ts are told. */
export interface CallerOrder {
  role: 'caller' | 'opener' | 'forker';
  call?: 'writeProtect' | 'unprotect' | 'wake' | 'copy' | 'zeropage' | 'register' | 'armedPages';
  /** [0] it is there, [1] go, or how many forks were made, [2] the call has returned. */
  control: Int32Array;
}

/** What of userfaultfd this process has now. */
export function resources(): {
  descriptors: number;
  descriptorsInUse: number;
  threads: number;
  loops: number;
  /** Of snapshots that are being captured. */
  sweeps: number;
} {
  const descriptors = readdirSync('/proc/self/fd');
  const threads = readdirSync('/proc/self/task');
  const named = (name: string): number => threads.filter((tid) => threadName(tid) === name).length;
  return {
    descriptors: descriptors.length,
    descriptorsInUse: userfaultfdDescriptors().length,
    threads: threads.length,
    loops: named('uffd-loop'),
    sweeps: named('uffd-sweep'),
  };
}

/** The numbers of the userfaultfd descriptors of this process. */
export function userfaultfdDescriptors(): number[] {
  return readdirSync('/proc/self/fd')
    .filter((fd) => linkOf(`/proc/self/fd/${fd}`).includes('[userfaultfd]'))
    .map(Number);
}

function linkOf(name: string): string {
  try {
    return readlinkSync(name);
  } catch {
    // The descriptor of readdir itself is gone by now.
    return '';
  }
}

/** The memory of the process, in KiB. */
export function memory(): { kib: number; residentKib: number } {
  const status = readFileSync('/proc/self/status', 'utf8');
  return {
    kib: Number(/^VmSize:\s+(\d+)/m.exec(status)![1]),
    residentKib: Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]),
  };
}

/** The VmFlags (proc(5), smaps) of every mapping that is registered with a userfaultfd. */
export function flagsOfRegisteredMemory(): string[][] {
  return [...readFileSync('/proc/self/smaps', 'utf8').matchAll(/^VmFlags: (.*)$/gm)]
    .map((line) => line[1]!.trim().split(' '))
    .filter((flags) => flags.includes('um') || flags.includes('uw'));
}

/** Collects garbage until `condition` holds. Needs --expose-gc. */
export async function collectUntil(condition: () => boolean): Promise<void> {
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  do {
    // A WeakRef that was looked at keeps its object until the end of that turn.
    await turn();
    gc!();
    await turn();
  } while (!condition());
}
