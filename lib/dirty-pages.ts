// A set of pages, kept as the kernel gives it: ranges in address order.

import { inspect } from 'node:util';
import { binding } from './binding.js';
import { invalidType, invalidValue, noMemory } from './errors.js';
import { firstWrites, writesIn, type FirstWrite } from './first-writes.js';
import { ListedPages, type PageSet } from './page-set.js';
import {
  bytesIn,
  differenceOf,
  holds,
  intersectionOf,
  setBits,
  unionOf,
  type RangeList,
  type RangeReader,
} from './range-list.js';
import { toRegion, type Trackable } from './region.js';
import { checkConstruct, checkInteger, CONSTRUCT } from './validate.js';

/** A run of dirty pages. Bytes from the start of the memory, clipped to it. */
export interface DirtyRange {
  offset: number;
  length: number;
  /** Which of several memories; absent when there is one. */
  memory?: number;
}

/**
 * Pages that were written, or that differ. Iterates `{ offset, length }` ranges in bytes, ascending;
 * nothing is made per page. Of several memories, `of(i)` is the set of one.
 */
export class DirtyPages implements Iterable<DirtyRange> {
  /** In bytes; the smallest of several memories. 1 in a set of bytes, which `bytes()` makes. */
  readonly pageSize: number;
  readonly #sets: readonly PageSet[];

  /** @internal */
  constructor(token: typeof CONSTRUCT, sets: readonly PageSet[]) {
    checkConstruct('DirtyPages', token);
    let pageSize = Infinity;
    for (const set of sets) pageSize = Math.min(pageSize, set.pageSize);
    this.pageSize = pageSize;
    this.#sets = sets;
  }

  /** How many pages, whole or in part. */
  get pageCount(): number {
    return this.#sets.reduce((sum, set) => sum + countPages(set.read(), set), 0);
  }

  /** The bytes of those pages that lie in the memory. */
  get byteLength(): number {
    return this.#sets.reduce((sum, set) => sum + bytesIn(set.read()), 0);
  }

  get isEmpty(): boolean {
    return this.#sets.every((set) => !set.read().next());
  }

  /** How many memories this set speaks of. */
  get memoryCount(): number {
    return this.#sets.length;
  }

  /** Size of a memory when the set was made, in bytes. */
  memoryByteLength(memory = 0): number {
    return this.#set(memory).size;
  }

  /**
   * The first write to each of these pages since it was armed, in the order they came; of several
   * memories one after the other. Only the engine `wp-sync` tells, and only in what `collect()` returns.
   */
  get writes(): FirstWrite[] {
    const several = this.#sets.length > 1;
    return this.#sets.flatMap(({ writes }, memory) =>
      writes === undefined ? [] : firstWrites(writes, several ? memory : undefined),
    );
  }

  /** gettid(2) of the threads among `writes`, ascending. */
  get threadIds(): number[] {
    return [...new Set(this.writes.map(({ threadId }) => threadId))].sort((a, b) => a - b);
  }

  /** Writes that were too many to be kept one by one (16,384). Their pages are in the set. */
  get missedWrites(): number {
    return this.#sets.reduce((sum, { writes }) => sum + (writes?.missed ?? 0), 0);
  }

  /** Whether the byte at `offset` lies in a page of the set. */
  has(offset: number, memory = 0): boolean {
    checkInteger('offset', offset, 0, Number.MAX_SAFE_INTEGER);
    return holds(this.#set(memory).ranges, offset);
  }

  /** The pages of one of the memories, in the order they were given. */
  of(memory: number): DirtyPages {
    return new DirtyPages(CONSTRUCT, [this.#set(memory)]);
  }

  /** Pages in either set. Both must be of the same memories, like the sets of one tracker. */
  union(other: DirtyPages): DirtyPages {
    return this.#combined(other, unionOf);
  }

  /** Pages in both sets. */
  intersection(other: DirtyPages): DirtyPages {
    return this.#combined(other, intersectionOf);
  }

  /** Pages in this set and not in the other. */
  difference(other: DirtyPages): DirtyPages {
    return this.#combined(other, differenceOf);
  }

  /**
   * The bytes of these pages that differ now from a copy made earlier, as a set whose `pageSize` is 1.
   * What lies behind the end of the copy differs.
   * @throws {UffdError} `ERR_UFFD_NO_MEMORY` when these are pages of files, not of live memory.
   */
  bytes(copy: Trackable, memory = 0): DirtyPages {
    const set = this.#set(memory);
    if (set.region === undefined) throw noMemory();
    const view = set.region.bytes;
    const ranges = binding().dirtyTracker.differingBytes(view, toRegion('copy', copy).bytes, set.ranges);
    const { region, writes } = set;
    const bytes = new ListedPages(ranges, { region, size: view.byteLength, pageSize: 1, lead: 0, writes });
    return new DirtyPages(CONSTRUCT, [bytes]);
  }

  /** `[offset, length, …]` in bytes, ascending; a copy. */
  toFloat64Array(memory = 0): Float64Array {
    return this.#set(memory).ranges.slice();
  }

  /** One bit for each page of the memory, the lowest bit of a byte first: page `n` is bit `n % 8` of byte `n >> 3`. */
  toBitmap(memory = 0): Uint8Array {
    const set = this.#set(memory);
    const { size, pageSize, lead } = set;
    const bitmap = new Uint8Array(Math.ceil(Math.ceil((lead + size) / pageSize) / 8));
    for (const reader = set.read(); reader.next();) {
      const first = lead + reader.offset;
      setBits(bitmap, Math.floor(first / pageSize), Math.floor((first + reader.length - 1) / pageSize));
    }
    return bitmap;
  }

  *[Symbol.iterator](): Generator<DirtyRange, undefined, undefined> {
    const several = this.#sets.length > 1;
    for (const [memory, set] of this.#sets.entries()) {
      for (const reader = set.read(); reader.next();) {
        const range = { offset: reader.offset, length: reader.length };
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
    const pages = this.pageSize === 1 ? '' : `${counted(this.pageCount, 'page')}, `;
    return `DirtyPages { ${pages}${counted(this.byteLength, 'byte')} } ${inspect(shown, options)}${more}`;
  }

  #set(memory: number): PageSet {
    checkInteger('memory', memory, 0, this.#sets.length - 1);
    return this.#sets[memory]!;
  }

  #combined(other: unknown, combine: (a: RangeList, b: RangeList) => RangeList): DirtyPages {
    if (typeof other !== 'object' || other === null || !(#sets in other)) {
      throw invalidType('other', 'an instance of DirtyPages', other);
    }
    const others = other.#sets;
    const sameMemories =
      others.length === this.#sets.length &&
      this.#sets.every(
        ({ pageSize, lead }, i) => others[i]!.pageSize === pageSize && others[i]!.lead === lead,
      );
    if (!sameMemories) throw invalidValue('other', 'must be a set of pages of the same memories', other);
    const sets = this.#sets.map((set, i) => {
      const ranges = combine(set.ranges, others[i]!.ranges);
      const known = [set.writes, others[i]!.writes];
      const writes = known.some((each) => each !== undefined) ? writesIn(ranges, ...known) : undefined;
      const { region, pageSize, lead } = set;
      const size = Math.max(set.size, others[i]!.size);
      return new ListedPages(ranges, { region, size, pageSize, lead, writes });
    });
    return new DirtyPages(CONSTRUCT, sets);
  }
}

/** @internal */
export function countPages(
  reader: RangeReader,
  { lead, pageSize }: Pick<PageSet, 'lead' | 'pageSize'>,
): number {
  let pages = 0;
  // A page that two ranges share, which sets made from others can have, counts once.
  let counted = -1;
  while (reader.next()) {
    const first = Math.max(Math.floor((lead + reader.offset) / pageSize), counted + 1);
    const last = Math.floor((lead + reader.offset + reader.length - 1) / pageSize);
    pages += Math.max(last - first + 1, 0);
    counted = last;
  }
  return pages;
}

function counted(count: number, unit: string): string {
  return `${count} ${unit}${count === 1 ? '' : 's'}`;
}
