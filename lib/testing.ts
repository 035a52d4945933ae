// For the tests of programs: what a function writes, and what it must leave alone.
// import { … } from 'userfaultfd/testing'

import { AssertionError } from 'node:assert';
import { types } from 'node:util';
import type { DirtyEngine } from './dirty-engine.js';
import { DirtyPages } from './dirty-pages.js';
import { DirtyTracker, type DirtyTrackerOptions } from './dirty-tracker.js';
import { differenceOf, intersectionOf, unionOf, type RangeList } from './range-list.js';
import { toRegion, type Region, type Trackable } from './region.js';
import { toRegions } from './trackable.js';
import { checkByteRange, checkInteger, checkOptions, type ByteRange } from './validate.js';
import { describeWrites, pageRangesInside, pageRangesOf, type Written } from './write-report.js';

export interface MeasuredWrites<T> {
  /** What the function returned. */
  result: T;
  /** The pages that were written. */
  pages: DirtyPages;
  /** The bytes that differ from before, one set for each memory, in their order. */
  bytes: DirtyPages[];
  engine: DirtyEngine;
  /** gettid(2) of the threads that wrote, ascending; undefined unless the engine is `wp-sync`, which tells. */
  threadIds: number[] | undefined;
}

export interface ExpectedWrites {
  /** Bytes that may be written; everything else must be left alone. Default: all. */
  within?: Partial<ByteRange> | readonly Partial<ByteRange>[];
  /** Default 1. */
  minPages?: number;
  maxPages?: number;
}

type Memories = Trackable | readonly Trackable[];

/**
 * Runs a function and tells what it wrote to the memory. Copies the memory first, so that bytes can be
 * told. An asynchronous function gives a promise. Writes of other threads meanwhile count as well.
 */
export function measureWrites<T>(
  fn: () => PromiseLike<T>,
  memory: Memories,
  options?: DirtyTrackerOptions,
): Promise<MeasuredWrites<T>>;
export function measureWrites<T>(
  fn: () => T,
  memory: Memories,
  options?: DirtyTrackerOptions,
): MeasuredWrites<T>;
export function measureWrites(fn: () => unknown, memory: Memories, options?: DirtyTrackerOptions): unknown {
  return measured(fn, toRegions(memory), (writes) => writes, options);
}

/**
 * Runs a function and throws an AssertionError when it wrote to `range` (bytes; one or several). A page
 * that lies in the range whole must not be written at all; of a page that it shares with other bytes,
 * its own bytes must be as they were.
 */
export function assertUntouched<T>(
  memory: Trackable,
  range: Partial<ByteRange> | readonly Partial<ByteRange>[],
  fn: () => PromiseLike<T>,
): Promise<MeasuredWrites<T>>;
export function assertUntouched<T>(
  memory: Trackable,
  range: Partial<ByteRange> | readonly Partial<ByteRange>[],
  fn: () => T,
): MeasuredWrites<T>;
export function assertUntouched(memory: Trackable, range: unknown, fn: () => unknown): unknown {
  const region = toRegion('memory', memory);
  const guarded = rangesOf(range, region.byteLength);
  return measured(fn, [region], (writes, written) => {
    const pages = intersectionOf(written.pages, pageRangesInside(guarded, written));
    const touched = unionOf(pages, intersectionOf(written.bytes, guarded));
    if (touched.length > 0) fail('assertUntouched', 'the range to be left alone', written, touched);
    return writes;
  });
}

/**
 * Runs a function and throws an AssertionError unless it wrote what is expected: inside `within`, from
 * `minPages` (1) to `maxPages` pages. A page that `within` covers in part may be written; its other
 * bytes must be as they were.
 */
export function assertWrites<T>(
  memory: Trackable,
  expected: ExpectedWrites,
  fn: () => PromiseLike<T>,
): Promise<MeasuredWrites<T>>;
export function assertWrites<T>(memory: Trackable, expected: ExpectedWrites, fn: () => T): MeasuredWrites<T>;
export function assertWrites(memory: Trackable, expected: ExpectedWrites, fn: () => unknown): unknown {
  const {
    within = {},
    minPages = 1,
    maxPages = Number.MAX_SAFE_INTEGER,
  } = checkOptions('expected', expected, ['within', 'minPages', 'maxPages']);
  checkInteger('expected.minPages', minPages, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('expected.maxPages', maxPages, minPages, Number.MAX_SAFE_INTEGER);
  const region = toRegion('memory', memory);
  const allowed = rangesOf(within, region.byteLength);
  return measured(fn, [region], (writes, written) => {
    if (expected.within !== undefined) {
      const pages = differenceOf(written.pages, pageRangesOf(allowed, written));
      const outside = unionOf(pages, differenceOf(written.bytes, allowed));
      if (outside.length > 0)
        fail('assertWrites', 'everything outside the range to be left alone', written, outside);
    }
    const count = writes.pages.pageCount;
    if (count < minPages)
      fail('assertWrites', `at least ${minPages} page(s) to be written`, written, written.pages);
    if (count > maxPages)
      fail('assertWrites', `at most ${maxPages} page(s) to be written`, written, written.pages);
    return writes;
  });
}

function fail(operator: string, expected: string, written: Written, ranges: RangeList): never {
  const message = `Expected ${expected}. ${describeWrites(written, ranges)}`;
  const actual = Array.from({ length: ranges.length / 2 }, (_, i) => ({
    offset: ranges[2 * i]!,
    length: ranges[2 * i + 1]!,
  }));
  throw new AssertionError({ message, operator, actual, expected });
}

function rangesOf(given: unknown, byteLength: number): RangeList {
  const ranges = Array.isArray(given) ? (given as unknown[]) : [given];
  return ranges
    .map((range) => checkByteRange(range, byteLength))
    .map(({ offset, length }) => Float64Array.of(offset, length))
    .reduce(unionOf, new Float64Array());
}

function measured<R>(
  fn: () => unknown,
  regions: Region[],
  finish: (writes: MeasuredWrites<unknown>, first: Written) => R,
  options?: DirtyTrackerOptions,
): R | Promise<R> {
  const copies = regions.map((region) => region.bytes.slice());
  const tracker = new DirtyTracker(regions, options);
  const look = (result: unknown): R => {
    const pages = tracker.collect();
    const bytes = copies.map((copy, i) => pages.bytes(copy, i));
    const { engine } = tracker;
    const threadIds = engine === 'wp-sync' ? pages.threadIds : undefined;
    return finish(
      { result, pages, bytes, engine, threadIds },
      {
        view: regions[0]!.bytes,
        copy: copies[0]!,
        pages: pages.toFloat64Array(0),
        bytes: bytes[0]!.toFloat64Array(),
        pageSize: regions[0]!.pageSize,
      },
    );
  };
  let pending = false;
  try {
    const result = fn();
    if (!isThenable(result)) return look(result);
    pending = true;
    return Promise.resolve(result)
      .then(look)
      .finally(() => tracker.close());
  } finally {
    if (!pending) tracker.close();
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    types.isPromise(value) || typeof (value as { then?: unknown } | undefined | null)?.then === 'function'
  );
}
