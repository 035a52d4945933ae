// PAGEMAP_SCAN that re-arms the pages and then cannot say which they were.

import assert from 'node:assert/strict';
import { DirtyTracker, Region, Snapshot } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { PAGE, pageRun, pagesOf, touch } from './dirty-support.js';

const ERRNOS = { EFAULT: 14, EPERM: 1, ENOMEM: 12, EINVAL: 22 };
const PAGES = 64;

export function everythingIsWritten(): void {
  const region = Region.allocate({ bytes: PAGES * PAGE });
  for (const errno of Object.values(ERRNOS)) {
    using tracker = new DirtyTracker(region);
    using consumer = tracker.consumer();
    for (const page of [1, 40]) touch(region.bytes, page, errno);
    testing().injectScanError(errno);
    assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, PAGES));
    assert.deepEqual(pagesOf(consumer.collect()), pageRun(0, PAGES));
    // It is armed again, all of it.
    assert.deepEqual(pagesOf(tracker.collect()), []);
    touch(region.bytes, 63, errno);
    assert.deepEqual(pagesOf(tracker.collect()), [63]);
    testing().injectScanError(errno);
    assert.deepEqual(pagesOf(tracker.peek()), pageRun(0, PAGES), 'a peek that failed knows nothing either');
    assert.deepEqual(pagesOf(tracker.collect()), []);
  }
}

/** A tracker whose pages nobody else reads. */
export function everythingIsWrittenForOne(): void {
  const region = Region.allocate({ bytes: PAGES * PAGE });
  using tracker = new DirtyTracker(region);
  for (const errno of Object.values(ERRNOS)) {
    for (const page of [1, 40]) touch(region.bytes, page, errno);
    testing().injectScanError(errno);
    assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, PAGES));
    assert.deepEqual(pagesOf(tracker.collect()), []);
    touch(region.bytes, 63, errno);
    assert.deepEqual(pagesOf(tracker.collect()), [63], 'it is armed again, all of it');
  }
  assert.equal(testing().mapAnew(region.bytes.subarray(8 * PAGE, 9 * PAGE)), undefined);
  assert.deepEqual(pagesOf(tracker.collect()), pageRun(0, PAGES));
  assert.deepEqual(pagesOf(tracker.collect()), []);
  for (const page of [8, 20]) touch(region.bytes, page, 1);
  assert.deepEqual(pagesOf(tracker.collect()), [8, 20]);
}

export function othersKeepTheirs(): void {
  const region = Region.allocate({ bytes: PAGES * PAGE });
  region.bytes.fill(1);
  using first = new DirtyTracker(region);
  using second = new DirtyTracker(new Uint8Array(region.buffer, 0, 8 * PAGE));
  using snapshot = Snapshot.take(region);
  touch(region.bytes, 2, 7);
  touch(region.bytes, 20, 7);
  testing().injectScanError(ERRNOS.EFAULT);
  first.collect();
  assert.ok(second.collect().has(2 * PAGE), 'what the failed scan took is not lost to another');
  snapshot.restore();
  assert.ok(region.bytes.every((byte) => byte === 1));
}
