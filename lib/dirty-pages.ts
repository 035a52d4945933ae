// A set of pages, kept as the kernel gives it: ranges in address order.

import { inspect } from 'node:util';
import { checkConstruct, checkInteger, CONSTRUCT } from './validate.js';

/** A run of dirty pages. Bytes from the start of the memory, clipped to it. */
export interface DirtyRange {
  offset: number;
  length: number;
  /** Which of several memories; absent when there is one. */
  memory?: number;
}

/** One memory's part of a page set. */
export interface PageSet {
  /** `[offset, length, …]` in bytes, ascending and disjoint. */
  ranges: Float64Array;
  /** Where the memory starts inside its first page, in bytes: 0 but for buffers of V8. */
  lead: number;
}

/**
 * Pages that were written, or that differ. Iterates `{ offset, length }` ranges in bytes, ascending;
 * nothing is made per page. Of several memories, `of(i)` is the set of one.
 */
export class DirtyPages implements Iterable<DirtyRange> {
  /** In bytes. */
  readonly pageSize: number;
  readonly #sets: readonly PageSet[];

  /** @internal */
  constructor(token: typeof CONSTRUCT, pageSize: number, sets: readonly PageSet[]) {
    checkConstruct('DirtyPages', token);
    this.pageSize = pageSize;
    this.#sets = sets;
  }

  /** How many pages, whole or in part. */
  get pageCount(): number {
    return this.#sets.reduce((sum, set) => sum + this.#pagesOf(set), 0);
  }

  /** The bytes of those pages that lie in the memory. */
  get byteLength(): number {
    let bytes = 0;
    for (const { ranges } of this.#sets) {
      for (let i = 1; i < ranges.length; i += 2) bytes += ranges[i]!;
    }
    return bytes;
  }

  get isEmpty(): boolean {
    return this.#sets.every(({ ranges }) => ranges.length === 0);
  }

  /** How many memories this set speaks of. */
  get memoryCount(): number {
    return this.#sets.length;
  }

  /** Whether the byte at `offset` lies in a page of the set. */
  has(offset: number, memory = 0): boolean {
    checkInteger('offset', offset, 0, Number.MAX_SAFE_INTEGER);
    const { ranges } = this.#set(memory);
    let low = 0;
    let high = ranges.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (ranges[middle * 2]! <= offset) low = middle + 1;
      else high = middle;
    }
    return low > 0 && offset < ranges[low * 2 - 2]! + ranges[low * 2 - 1]!;
  }

  /** The pages of one of the memories, in the order they were given. */
  of(memory: number): DirtyPages {
    return new DirtyPages(CONSTRUCT, this.pageSize, [this.#set(memory)]);
  }

  *[Symbol.iterator](): Generator<DirtyRange, undefined, undefined> {
    const several = this.#sets.length > 1;
    for (const [memory, { ranges }] of this.#sets.entries()) {
      for (let i = 0; i < ranges.length; i += 2) {
        const range = { offset: ranges[i]!, length: ranges[i + 1]! };
        yield several ? { ...range, memory } : range;
      }
    }
    return undefined;
  }

  /** `{ pageSize, pageCount, byteLength, ranges }`. */
  toJSON(): { pageSize: number; pageCount: number; byteLength: number; ranges: DirtyRange[] } {
    return {
      pageSize: this.pageSize,
      pageCount: this.pageCount,
      byteLength: this.byteLength,
      ranges: [...this],
    };
  }

  [inspect.custom](_depth: number, options: object): string {
    if (!(#sets in this)) return 'DirtyPages {}';
    const shown: DirtyRange[] = [];
    for (const range of this) {
      if (shown.length === 8) break;
      shown.push(range);
    }
    const count = this.#sets.reduce((sum, { ranges }) => sum + ranges.length / 2, 0);
    const more = count > shown.length ? ` … ${count - shown.length} more ranges` : '';
    return `DirtyPages { ${this.pageCount} pages, ${this.byteLength} bytes } ${inspect(shown, options)}${more}`;
  }

  #set(memory: number): PageSet {
    checkInteger('memory', memory, 0, this.#sets.length - 1);
    return this.#sets[memory]!;
  }

  #pagesOf({ ranges, lead }: PageSet): number {
    let pages = 0;
    for (let i = 0; i < ranges.length; i += 2) {
      const first = Math.floor((lead + ranges[i]!) / this.pageSize);
      const last = Math.floor((lead + ranges[i]! + ranges[i + 1]! - 1) / this.pageSize);
      pages += last - first + 1;
    }
    return pages;
  }
}
