// Runs of consecutive pages in typed arrays: which pages a file holds, and where a chain of files has
// each. Nothing is made per page, and a page is found in O(log runs).

import type { RangeList } from './range-list.js';

/** Ascending, disjoint runs of pages. Of a file, `count` pages from page `first` on. */
export class PageRuns {
  #first = new Float64Array(16);
  #count = new Float64Array(16);
  /** How many runs. */
  length = 0;
  /** Of all runs. */
  pageCount = 0;

  /** Adds pages behind those that are there; joins the last run where they follow it. */
  add(first: number, count: number): void {
    const last = this.length - 1;
    this.pageCount += count;
    if (last >= 0 && this.end(last) === first) {
      this.#count[last]! += count;
      return;
    }
    if (this.length === this.#first.length) {
      this.#first = grown(this.#first);
      this.#count = grown(this.#count);
    }
    this.#first[this.length] = first;
    this.#count[this.length] = count;
    this.length++;
  }

  first(run: number): number {
    return this.#first[run]!;
  }

  count(run: number): number {
    return this.#count[run]!;
  }

  /** The page behind the run. */
  end(run: number): number {
    return this.#first[run]! + this.#count[run]!;
  }

  /** The same in bytes, clipped to `byteLength`. */
  toRanges(pageSize: number, byteLength: number): RangeList {
    const ranges = new Float64Array(this.length * 2);
    for (let run = 0; run < this.length; run++) {
      const offset = this.first(run) * pageSize;
      ranges[run * 2] = offset;
      ranges[run * 2 + 1] = Math.min(this.end(run) * pageSize, byteLength) - offset;
    }
    return ranges;
  }
}

/** Consecutive pages that lie one after another in one file. */
export interface PagePiece {
  first: number;
  count: number;
  /** Which file of the chain. */
  link: number;
  /** Of the first page, among the pages that file holds. */
  index: number;
}

/**
 * Where each page of one memory is: ascending, disjoint runs; a page in none of them is zero. The
 * arrays are what a native page server needs; `length` of their entries are used.
 */
export class PageMap {
  first = new Float64Array(16);
  count = new Float64Array(16);
  link = new Uint32Array(16);
  index = new Float64Array(16);
  length = 0;
  pageCount = 0;

  add(first: number, count: number, link: number, index: number): void {
    if (this.length === this.first.length) {
      this.first = grown(this.first);
      this.count = grown(this.count);
      this.link = grown(this.link);
      this.index = grown(this.index);
    }
    this.first[this.length] = first;
    this.count[this.length] = count;
    this.link[this.length] = link;
    this.index[this.length] = index;
    this.length++;
    this.pageCount += count;
  }

  /** The first run that ends behind `page`: the one that holds it, or the next; `length` when there is none. */
  runAt(page: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.first[middle]! + this.count[middle]! <= page) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The pieces between two pages, ascending. */
  *pieces(from: number, to: number): Generator<PagePiece, undefined, undefined> {
    for (let run = this.runAt(from); run < this.length && this.first[run]! < to; run++) {
      const first = Math.max(this.first[run]!, from);
      const count = Math.min(this.first[run]! + this.count[run]!, to) - first;
      yield { first, count, link: this.link[run]!, index: this.index[run]! + first - this.first[run]! };
    }
    return undefined;
  }
}

/** What one file of a chain says of one memory. */
export interface Layer {
  data: PageRuns;
  /** Index of the first of its data pages among all that the file holds. */
  dataIndex: number;
  /** Pages that are zero, whatever the parent has. */
  zero: PageRuns;
  /** Pages of the memory; the parent's behind them are gone. */
  pages: number;
}

/** The map of `below` with a file on top. Linear in both. */
export function overlay(below: PageMap, layer: Layer, link: number): PageMap {
  const map = new PageMap();
  let at = 0;
  let run = 0;
  // `below` from `at` on, up to `to`.
  const keep = (to: number): void => {
    for (; run < below.length && below.first[run]! < to; run++) {
      const start = below.first[run]!;
      const end = start + below.count[run]!;
      const first = Math.max(start, at);
      const last = Math.min(end, to);
      if (last > first) map.add(first, last - first, below.link[run]!, below.index[run]! + first - start);
      if (end > to) return;
    }
  };
  let index = layer.dataIndex;
  for (let data = 0, zero = 0; data < layer.data.length || zero < layer.zero.length;) {
    const isData =
      zero === layer.zero.length ||
      (data < layer.data.length && layer.data.first(data) < layer.zero.first(zero));
    const [runs, i] = isData ? [layer.data, data++] : [layer.zero, zero++];
    keep(runs.first(i));
    if (isData) {
      map.add(runs.first(i), runs.count(i), link, index);
      index += runs.count(i);
    }
    at = runs.end(i);
  }
  keep(layer.pages);
  return map;
}

function grown<T extends Float64Array | Uint32Array>(array: T): T {
  const larger = new (array.constructor as new (length: number) => T)(array.length * 2);
  larger.set(array);
  return larger;
}
