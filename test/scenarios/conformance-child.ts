// A forked child that stays the same program, and looks at the memory it got: NativeTesting.forkChild.

import assert from 'node:assert/strict';
import { closeSync, readFileSync, readSync } from 'node:fs';
import { isFailure } from '../../lib/binding.js';
import type { Region } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { until } from './loop-support.js';

/** What it writes to each page. */
export const CHILD_BYTE = 0xc5;

export class ForkedChild {
  readonly pid: number;
  readonly #report: number;
  readonly #count: number;

  /** The region must be inherited. `pinFile`: the child unshares its pages first. */
  constructor(region: Region, pinFile = '') {
    const child = testing().forkChild(region.bytes, region.pageSize, CHILD_BYTE, pinFile);
    assert.ok(!isFailure(child), JSON.stringify(child));
    this.pid = child.pid;
    this.#report = child.report;
    this.#count = region.byteLength / region.pageSize;
  }

  /** First: which of its pages are armed. Second: their first bytes. Third: those after it wrote them. */
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
    closeSync(this.#report);
    return this.#reap();
  }

  #reap(): number {
    return testing().reapChild(this.pid);
  }
}

export function inherit(region: Region): void {
  const failure = testing().inheritOnFork(region.bytes);
  assert.equal(failure, undefined, JSON.stringify(failure));
}
