// A forked child that stays the same program, and looks at the memory it got: NativeTesting.forkChild.

import assert from 'node:assert/strict';
import { closeSync, readFileSync, readSync, writeSync } from 'node:fs';
import { isFailure } from '../../lib/binding.js';
import type { Region } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { until } from './loop-support.js';

/** What it writes to each page. */
export const CHILD_BYTE = 0xc5;

export class ForkedChild {
  readonly pid: number;
  readonly #orders: number;
  readonly #report: number;
  readonly #count: number;

  /** The region must be inherited. `pinFile`: the child unshares its pages first. */
  constructor(region: Region, pinFile = '') {
    const child = testing().forkChild(region.bytes, region.pageSize, CHILD_BYTE, pinFile);
    assert.ok(!isFailure(child), JSON.stringify(child));
    this.pid = child.pid;
    this.#orders = child.orders;
    this.#report = child.report;
    this.#count = region.byteLength / region.pageSize;
  }

  /** Which of its pages are armed. */
  armed(): number[] {
    return this.#does('a');
  }

  firstBytes(): number[] {
    return this.#does('r');
  }

  /** The same after it wrote them. */
  writes(): number[] {
    return this.#does('w');
  }

  /** After it gave all of them back to the kernel. */
  givesBack(): number[] {
    return this.#does('d');
  }

  /** After a child of its own wrote to its copy and ended. */
  forks(): number[] {
    return this.#does('f');
  }

  /** From here on it is another program. */
  exec(): void {
    this.order('e');
    until(() => readFileSync(`/proc/${this.pid}/comm`, 'utf8') === 'sleep\n');
  }

  /** Begins what `tells` returns, and what may have to wait for this process. */
  order(order: 'a' | 'r' | 'w' | 'd' | 'f' | 'e' | 'x'): void {
    writeSync(this.#orders, order);
  }

  tells(): number[] {
    const told = new Uint8Array(this.#count);
    const count = readSync(this.#report, told);
    if (count === 0) assert.fail(`the child ended: ${this.#reap()}`);
    assert.equal(count, this.#count);
    return [...told];
  }

  untilAsleepInFault(): void {
    until(() => readFileSync(`/proc/${this.pid}/wchan`, 'utf8').includes('userfault'));
  }

  /** Its wait status. */
  end(): number {
    this.order('x');
    closeSync(this.#orders);
    closeSync(this.#report);
    return this.#reap();
  }

  #does(order: 'a' | 'r' | 'w' | 'd' | 'f'): number[] {
    this.order(order);
    return this.tells();
  }

  #reap(): number {
    return testing().reapChild(this.pid);
  }
}

export function inherit(region: Region): void {
  const failure = testing().inheritOnFork(region.bytes);
  assert.equal(failure, undefined, JSON.stringify(failure));
}
