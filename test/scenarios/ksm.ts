// Memory that the kernel merges behind the back of a tracker. The caller has switched KSM on.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { DirtyTracker, Region, Snapshot, Userfaultfd } from '../../lib/index.js';
import { testing } from '../support/testing.js';
import { PAGE, pagesOf, touch, WASM } from './dirty-support.js';

const PAGES = 16 * WASM;

function mergedPages(): number {
  return Number(/ksm_merging_pages (\d+)/.exec(readFileSync('/proc/self/ksm_stat', 'utf8'))?.[1] ?? '0');
}

/** Equal pages, unlike any others. */
function fill(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += PAGE) bytes.fill(0xa5, at, at + PAGE);
}

export async function mergedMemory(): Promise<void> {
  assert.equal(testing().mergeMemory(true), 0);
  const memory = new WebAssembly.Memory({ initial: PAGES / WASM });
  const region = Region.allocate({ bytes: PAGES * PAGE });
  const bytes = new Uint8Array(memory.buffer);
  fill(bytes);
  fill(region.bytes);
  using tracker = new DirtyTracker([memory, region]);
  using comparing = new DirtyTracker([memory, region], { engine: 'compare' });
  using snapshot = Snapshot.take([memory, region], { mode: 'copy' });
  const watched = new WebAssembly.Memory({ initial: PAGES / WASM });
  fill(new Uint8Array(watched.buffer));
  using sync = new DirtyTracker(watched, { engine: 'wp-sync' });
  // While it is taken out of merging, as tracked memory is.
  touch(bytes, 3, 1);
  touch(region.bytes, 4, 1);
  assert.deepEqual(pagesOf(tracker.collect().of(0)), [3]);
  // Asked for once more, of all memory: also of what was taken out of it. From here on ksmd may come first.
  assert.equal(testing().mergeMemory(true), 0);

  const deadline = performance.now() + 20_000;
  while (mergedPages() < PAGES / 2) {
    assert.ok(performance.now() < deadline, `only ${mergedPages()} pages were merged`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  // Merging is no write, but the mark goes with it: reported too much, never too little.
  const afterMerge = tracker.collect();
  assert.deepEqual(pagesOf(afterMerge.of(1)), [], 'a region is not merged');
  for (const page of [3, 7, 100, PAGES - 1]) {
    touch(bytes, page, 9);
    touch(region.bytes, page, 9);
  }
  const dirty = tracker.collect();
  for (const page of [3, 7, 100, PAGES - 1]) assert.ok(dirty.has(page * PAGE, 0), `page ${page}`);
  assert.deepEqual(pagesOf(dirty.of(1)), [3, 7, 100, PAGES - 1]);
  assert.deepEqual(pagesOf(comparing.collect().of(0)), [3, 7, 100, PAGES - 1], 'nothing but writes differs');
  for (const page of [2, 50]) touch(new Uint8Array(watched.buffer), page, 9);
  const told = sync.collect();
  for (const page of [2, 50]) assert.ok(told.has(page * PAGE), `wp-sync: page ${page}`);
  snapshot.restore();
  for (const each of [bytes, region.bytes]) assert.ok(each.every((byte) => byte === 0xa5));
  console.log(JSON.stringify({ merged: mergedPages(), tooMuch: afterMerge.of(0).pageCount }));
}

/** The setting is this process's own, and ends with it. */
export async function warnsOfMerging(): Promise<void> {
  const codes: (string | undefined)[] = [];
  process.on('warning', (warning: Error & { code?: string }) => codes.push(warning.code));
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const region = Region.allocate({ bytes: 4 * PAGE });
  new DirtyTracker(region).close();
  await turn();
  assert.deepEqual(codes, [], 'not without a reason');
  assert.equal(testing().mergeMemory(true), 0);
  // It compares, so nobody can take marks away.
  new DirtyTracker(region, { engine: 'compare' }).close();
  await turn();
  assert.deepEqual(codes, []);
  using uffd = Userfaultfd.open();
  uffd.register(region, 'write-protect').close();
  await turn();
  assert.deepEqual(codes, ['UFFD_MEMORY_MERGE']);
  for (const engine of ['wp-async', 'wp-sync'] as const) new DirtyTracker(region, { engine }).close();
  Snapshot.take(region).close();
  await turn();
  assert.deepEqual(codes, ['UFFD_MEMORY_MERGE'], 'once');
  assert.equal(testing().mergeMemory(false), 0);
}
