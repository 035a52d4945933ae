// Pages as the addon hands over what a tracker collected: native/core/packed_pages.h tells how they are
// written. They are read when somebody asks: right after PAGEMAP_SCAN nothing is in the caches of the
// processor, and who only counts pages needs no list of them.

import { binding } from './binding.js';
import { writesIn, type KnownWrites } from './first-writes.js';
import type { PageSet } from './page-set.js';
import type { RangeList, RangeReader } from './range-list.js';
import type { Region } from './region.js';

/** A digit with this is not its number's last. */
const MORE = 128;

/** @internal */
export class PackedPages implements PageSet {
  readonly region: Region | undefined;
  readonly size: number;
  readonly pageSize: number;
  readonly writes: KnownWrites | undefined;
  readonly #packed: string;
  #ranges: RangeList | undefined;

  /** Of a memory of `size` bytes. `known`: what was seen of writes to it, to these pages or others. */
  constructor(packed: string, size: number, pageSize: number, region?: Region, known?: KnownWrites) {
    this.#packed = packed;
    this.size = size;
    this.pageSize = pageSize;
    this.region = region;
    this.writes = known === undefined ? undefined : writesIn(this.ranges, known);
  }

  get lead(): number {
    return this.#reader().lead;
  }

  get ranges(): RangeList {
    this.#ranges ??= this.#list();
    return this.#ranges;
  }

  read(): RangeReader {
    return this.#reader();
  }

  #list(): RangeList {
    const list = new Float64Array(2 * countRanges(this.#packed));
    let used = 0;
    for (const reader = this.#reader(); reader.next();) {
      list[used++] = reader.offset;
      list[used++] = reader.length;
    }
    return list;
  }

  #reader(): PackedReader {
    return new PackedReader(this.#packed, this.size);
  }
}

class PackedReader implements RangeReader {
  /** Where the memory starts inside its first page, in bytes. */
  readonly lead: number;
  offset = 0;
  length = 0;
  readonly #packed: string;
  readonly #size: number;
  readonly #pageSize = binding().pageSize;
  #at = 0;
  /** The end of the last range, in pages from the start of that page. */
  #page = 0;

  constructor(packed: string, size: number) {
    this.#packed = packed;
    this.#size = size;
    this.lead = this.#number();
  }

  next(): boolean {
    if (this.#at >= this.#packed.length) return false;
    const number = this.#number();
    const first = this.#page + Math.floor(number / 2);
    this.#page = first + (number % 2 === 0 ? 1 : this.#number());
    this.offset = Math.max(first * this.#pageSize - this.lead, 0);
    this.length = Math.min(this.#page * this.#pageSize - this.lead, this.#size) - this.offset;
    return true;
  }

  /** In floating point: the numbers of a large memory do not fit in the 32 bits of `<<`. */
  #number(): number {
    let digit = this.#packed.charCodeAt(this.#at++);
    let number = digit % MORE;
    for (let weight = MORE; digit >= MORE; weight *= MORE) {
      digit = this.#packed.charCodeAt(this.#at++);
      number += (digit % MORE) * weight;
    }
    return number;
  }
}

function countRanges(packed: string): number {
  let count = 0;
  for (let at = behindNumber(packed, 0); at < packed.length; count++) {
    const hasLength = packed.charCodeAt(at) % 2 === 1;
    at = behindNumber(packed, at);
    if (hasLength) at = behindNumber(packed, at);
  }
  return count;
}

function behindNumber(packed: string, at: number): number {
  while (packed.charCodeAt(at) >= MORE) at++;
  return at + 1;
}
