// Conformance: feature SIGBUS, and poisoned pages. Each ends with a SIGBUS that nobody handles.

import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Userfaultfd, type Region } from '../../lib/index.js';
import { allocate, NEVER_MS, nextFault, pageOf } from './conformance-support.js';
import { pages, ready, Toucher } from './loop-support.js';

const bytesOf = (region: Region, page: number): Uint8Array =>
  region.bytes.subarray(page * region.pageSize, page * region.pageSize + 16);

/** The errno with which a system call reads from the page, if it fails. */
function errorOfReadFrom(region: Region, page: number): string | undefined {
  const directory = mkdtempSync(path.join(tmpdir(), 'userfaultfd-'));
  const fd = openSync(path.join(directory, 'copy'), 'w');
  try {
    writeSync(fd, bytesOf(region, page));
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
}

/** And with which one writes to it. */
function errorOfWriteTo(region: Region, page: number): string | undefined {
  const fd = openSync('/dev/zero', 'r');
  try {
    readSync(fd, bytesOf(region, page));
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  } finally {
    closeSync(fd);
  }
}

export function sigbus(kind: string): void {
  const region = allocate(kind, 4);
  const { pageSize } = region;
  const uffd = Userfaultfd.open({ features: ['SIGBUS'] });
  uffd.register(region, 'missing');
  uffd.copy(region, 0, pageOf(region, 7));
  uffd.copy(region, 2 * pageSize, pageOf(region, 8));
  assert.deepEqual([region.bytes[0], region.bytes[3 * pageSize - 1]], [7, 8]);
  region.bytes[1] = 1;
  assert.equal(errorOfReadFrom(region, 0), undefined);
  assert.equal(errorOfReadFrom(region, 1), 'EFAULT');
  assert.equal(errorOfWriteTo(region, 3), 'EFAULT');
  ready();
  process.exitCode = region.bytes[pageSize]!;
}

export function sigbusWp(kind: string): void {
  const region = allocate(kind, 4);
  const { pageSize } = region;
  const uffd = Userfaultfd.open({ features: ['SIGBUS', 'WP_UNPOPULATED', 'WP_HUGETLBFS_SHMEM'] });
  uffd.register(region, 'write-protect');
  region.bytes[0] = 7;
  uffd.writeProtect(region);
  assert.deepEqual([region.bytes[0], region.bytes[3 * pageSize]], [7, 0], 'reads pass');
  assert.equal(errorOfReadFrom(region, 0), undefined);
  assert.equal(errorOfWriteTo(region, 0), 'EFAULT');
  assert.equal(errorOfWriteTo(region, 1), 'EFAULT');
  uffd.unprotect(region, pages(region, 0, 2));
  region.bytes[0] = 8;
  assert.equal(errorOfWriteTo(region, 1), undefined);
  assert.equal(region.bytes[0], 8);
  ready();
  region.bytes[2 * pageSize] = 1;
}

export async function poison(kind: string): Promise<void> {
  const region = allocate(kind, 16, { shared: true });
  const { pageSize } = region;
  const uffd = Userfaultfd.open({ features: ['POISON'] });
  uffd.register(region, 'missing', { resolve: 'handler', deadlineMs: NEVER_MS });
  // Every other page, and none that is there.
  for (let page = 0; page < 8; page += 2) {
    uffd.copy(region, page * pageSize, pageOf(region, page + 1));
    assert.equal(uffd.poison(region, pages(region, page + 1)), pageSize);
  }
  for (let page = 0; page < 8; page++) {
    const poisoned = page % 2 === 1;
    assert.throws(() => uffd.poison(region, pages(region, page)), { code: 'EEXIST' });
    if (!poisoned) assert.equal(region.bytes[(page + 1) * pageSize - 1], page + 1);
    const error = errorOfReadFrom(region, page);
    assert.ok(poisoned ? ['EFAULT', 'EHWPOISON'].includes(error!) : error === undefined, `${page}: ${error}`);
  }
  // Given back, it is a missing page like any other.
  region.discard(pageSize, pageSize);
  assert.equal(uffd.copy(region, pageSize, pageOf(region, 5)), pageSize);
  assert.equal(region.bytes[pageSize], 5);

  const events = uffd.events();
  new Toucher(region.bytes, { offset: 9 * pageSize, access: 'read' }).go();
  const fault = await nextFault(events);
  assert.deepEqual([fault.reason, fault.pageOffset], ['missing', 9 * pageSize]);
  ready();
  await fault.poison();
  await new Promise(() => undefined);
}
