// One memory's part of a set of pages.

import { binding } from './binding.js';
import type { KnownWrites } from './first-writes.js';
import { ListReader, type RangeList, type RangeReader } from './range-list.js';
import type { Region } from './region.js';

/** @internal */
export interface PageSet extends PageSetFrame {
  readonly ranges: RangeList;
  /** Reads them in order; makes no list of them where there is none. */
  read(): RangeReader;
}

/** @internal All but the ranges. */
export interface PageSetFrame {
  /** Undefined in a set of no live memory, such as the difference of two files. */
  readonly region: Region | undefined;
  /** Of the memory when the set was made, in bytes. */
  readonly size: number;
  /** In bytes; 1 for a set of bytes. */
  readonly pageSize: number;
  /** Where the memory starts inside its first page, in bytes: 0 but for buffers of V8. */
  readonly lead: number;
  /** Undefined where the engine does not tell. */
  readonly writes?: KnownWrites | undefined;
}

/** @internal */
export class ListedPages implements PageSet {
  readonly ranges: RangeList;
  readonly region: Region | undefined;
  readonly size: number;
  readonly pageSize: number;
  readonly lead: number;
  readonly writes: KnownWrites | undefined;

  constructor(ranges: RangeList, { region, size, pageSize, lead, writes }: PageSetFrame) {
    this.ranges = ranges;
    this.region = region;
    this.size = size;
    this.pageSize = pageSize;
    this.lead = lead;
    this.writes = writes;
  }

  /** Of memory as it is now, or when it had `size` bytes. */
  static of(region: Region, view: Uint8Array, ranges: RangeList, size = view.byteLength): ListedPages {
    const { pageSize } = region;
    return new ListedPages(ranges, {
      region,
      size,
      pageSize,
      lead: binding().addressInPage(view, pageSize),
    });
  }

  read(): RangeReader {
    return new ListReader(this.ranges);
  }
}
