// What the rows of errno-table.ts play on: memory with a thread that waits in it.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import {
  PageFault,
  Region,
  Userfaultfd,
  type RegisterMode,
  type UffdError,
  type UffdEvent,
} from '../../lib/index.js';
import { withHugePages } from '../support/huge-pages.js';
import { sleepersInFault, testing } from '../support/testing.js';
import { NEVER_MS, nextFault } from './conformance-support.js';
import { PAGE } from './dirty-support.js';
import { eventually, pages, Toucher, until, withoutWatchdog } from './loop-support.js';

/** The ioctls that fill pages, as far as they come. */
export const FILLS = ['COPY', 'ZEROPAGE', 'CONTINUE', 'MOVE', 'POISON'] as const;
export type Fill = (typeof FILLS)[number];

export const ERRNO: Readonly<Record<string, number>> = constants.errno;

export function refusal(use: () => unknown): UffdError | undefined {
  try {
    use();
  } catch (error) {
    return error as UffdError;
  }
  return undefined;
}

export function assertRefused(
  error: UffdError | undefined,
  call: string,
  errno: string,
  hint?: RegExp,
): asserts error {
  const syscall = `ioctl(${call === 'PAGEMAP_SCAN' ? call : `UFFDIO_${call}`})`;
  assert.deepEqual(
    [error?.name, error?.code, error?.errno, error?.syscall],
    ['UffdError', errno, -ERRNO[errno]!, syscall],
  );
  if (hint === undefined) return;
  assert.match(error!.hint!, hint);
  assert.ok(error!.message.includes(error!.hint!));
}

/** From now on, in every thread of this process. */
export function refuse(call: string, errno: string): void {
  const name = call === 'PAGEMAP_SCAN' ? call : `UFFDIO_${call}`;
  assert.equal(testing().refuseIoctl(name, ERRNO[errno]!), 0);
}

/** Removed when the process ends. */
export function temporaryDirectory(where = tmpdir()): string {
  const directory = mkdtempSync(path.join(where, 'uffd-errno-'));
  process.on('exit', () => {
    rmSync(directory, { recursive: true });
  });
  return directory;
}

export async function withHugePage(use: () => void): Promise<void> {
  await withHugePages(1, use);
}

const PAGES = 16;
const SLEEPS_AT = 1;
const SOURCE_BYTE = 5;

/** Sixteen pages that are filled by one of the calls; a thread waits for page 1, whose fault is told. */
export class Stage {
  /** Where the pages of minor faults come from. */
  readonly back: Region | undefined;
  readonly sleeper: Toucher;
  readonly #fill: Fill;
  readonly #fault: PageFault;

  private constructor(
    fill: Fill,
    readonly region: Region,
    readonly uffd: Userfaultfd,
    fields: { back: Region | undefined; sleeper: Toucher; fault: PageFault },
  ) {
    this.#fill = fill;
    this.back = fields.back;
    this.sleeper = fields.sleeper;
    this.#fault = fields.fault;
  }

  static async open(fill: Fill, ...more: RegisterMode[]): Promise<Stage> {
    const backing = fill === 'CONTINUE' ? 'memfd' : 'anonymous';
    const region = Region.allocate({ bytes: PAGES * PAGE, backing, shared: true });
    const back = fill === 'CONTINUE' ? region.alias() : undefined;
    back?.bytes.fill(SOURCE_BYTE);
    const uffd = Userfaultfd.open({ features: ['EVENT_REMOVE', 'MOVE', 'POISON', 'THREAD_ID'] });
    const modes: RegisterMode[] = [fill === 'CONTINUE' ? 'minor' : 'missing', ...more];
    uffd.register(region, modes, { resolve: 'handler', deadlineMs: NEVER_MS });
    const events: AsyncIterableIterator<UffdEvent> = uffd.events();
    const sleeper = new Toucher(region.bytes, { offset: SLEEPS_AT * PAGE, access: 'read' });
    sleeper.go();
    const fault = await nextFault(events);
    return new Stage(fill, region, uffd, { back, sleeper, fault });
  }

  /** The bytes that it says were filled. */
  fill(first: number, count = 1): number {
    const { region, uffd } = this;
    const there = pages(region, first, count);
    switch (this.#fill) {
      case 'COPY':
        return uffd.copy(region, there.offset, new Uint8Array(there.length).fill(SOURCE_BYTE));
      case 'ZEROPAGE':
        return uffd.zeropage(region, there);
      case 'CONTINUE':
        return uffd.continue(region, there);
      case 'POISON':
        return uffd.poison(region, there);
      case 'MOVE': {
        const source = Region.allocate({ bytes: there.length });
        source.bytes.fill(SOURCE_BYTE);
        return uffd.move(region, there.offset, source);
      }
    }
  }

  /** Lets a page exist, by another call where there is one. */
  make(page: number): void {
    const { region, uffd } = this;
    if (this.#fill === 'CONTINUE') uffd.continue(region, pages(region, page));
    else uffd.copy(region, page * PAGE, new Uint8Array(PAGE));
  }

  /** Its fault is open, and it sleeps (a fault is told a moment before); `count`: so many threads do. */
  expectSleeper(count = 1): void {
    assert.equal(this.#fault.resolved, false);
    until(() => sleepersInFault().length === count);
    assert.ok(sleepersInFault().includes(this.sleeper.tid));
    assert.equal(this.#fault.resolved, false);
  }

  /** A handler ends its fault as if nothing had been. */
  async end(): Promise<void> {
    const bytes = new Uint8Array(PAGE).fill(SOURCE_BYTE);
    assert.equal(await this.#fault.resolve(this.#fill === 'CONTINUE' ? undefined : bytes), true);
    await eventually(() => this.sleeper.finishedRound === 1);
    assert.equal(this.sleeper.lastRead, SOURCE_BYTE);
    this.uffd.close();
  }

  /** Closing lets it go. */
  close(): void {
    this.uffd.close();
    this.sleeper.untilDone();
    assert.equal(this.#fault.endedBy, 'closed');
  }
}

/**
 * Calls `meanwhile` while a thread gives page 12 back and nobody reads the event, which it waits for: the
 * mapping is changing.
 */
export async function changing({ region, sleeper }: Stage, meanwhile: () => void): Promise<void> {
  withoutWatchdog();
  testing().closeBarrier('loop-before-read');
  const worker = new Worker(path.join(__dirname, 'errno-discarder.js'), {
    workerData: { handle: region.handle, offset: 12 * PAGE, length: PAGE },
  });
  try {
    until(() => sleepersInFault().some((tid) => tid !== sleeper.tid));
    meanwhile();
  } finally {
    testing().openBarrier('loop-before-read');
  }
  await new Promise((resolve) => worker.once('exit', resolve));
}
