// Sets of bytes as `[offset, length, …]`, ascending, disjoint and merged.

export type RangeList = Float64Array;

/** Stands before the first of some ranges until `next()`, which is false behind the last. */
export interface RangeReader {
  offset: number;
  length: number;
  next(): boolean;
}

export class ListReader implements RangeReader {
  offset = 0;
  length = 0;
  readonly #ranges: RangeList;
  #at = 0;

  constructor(ranges: RangeList) {
    this.#ranges = ranges;
  }

  next(): boolean {
    if (this.#at >= this.#ranges.length) return false;
    this.offset = this.#ranges[this.#at++]!;
    this.length = this.#ranges[this.#at++]!;
    return true;
  }
}

/** Edge `k` of a list: the start of a range when even, its end when odd. */
function edge(ranges: RangeList, k: number): number {
  if (k >= ranges.length) return Infinity;
  return k % 2 === 0 ? ranges[k]! : ranges[k - 1]! + ranges[k]!;
}

/** The bytes for which `keep` says yes, told whether each list has them. Linear in both lists. */
function combine(a: RangeList, b: RangeList, keep: (inA: boolean, inB: boolean) => boolean): RangeList {
  const kept = new Float64Array(a.length + b.length);
  let used = 0;
  let start = -1;
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    const at = Math.min(edge(a, i), edge(b, j));
    if (edge(a, i) === at) i++;
    if (edge(b, j) === at) j++;
    const inside = keep(i % 2 === 1, j % 2 === 1);
    if (inside === start >= 0) continue;
    if (inside) {
      start = at;
    } else {
      kept[used++] = start;
      kept[used++] = at - start;
      start = -1;
    }
  }
  return kept.slice(0, used);
}

export function unionOf(a: RangeList, b: RangeList): RangeList {
  return combine(a, b, (inA, inB) => inA || inB);
}

export function intersectionOf(a: RangeList, b: RangeList): RangeList {
  return combine(a, b, (inA, inB) => inA && inB);
}

export function differenceOf(a: RangeList, b: RangeList): RangeList {
  return combine(a, b, (inA, inB) => inA && !inB);
}

/** Reads to the end. */
export function bytesIn(reader: RangeReader): number {
  let bytes = 0;
  while (reader.next()) bytes += reader.length;
  return bytes;
}

/** Whether a range holds the byte at `offset`. */
export function holds(ranges: RangeList, offset: number): boolean {
  let low = 0;
  let high = ranges.length / 2;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ranges[middle * 2]! <= offset) low = middle + 1;
    else high = middle;
  }
  return low > 0 && offset < ranges[low * 2 - 2]! + ranges[low * 2 - 1]!;
}

/** Sets the bits from `first` to `last`, bit 0 of a byte first. */
export function setBits(bitmap: Uint8Array, first: number, last: number): void {
  const [from, to] = [first >>> 3, last >>> 3];
  const head = 0xff << (first & 7);
  const tail = 0xff >>> (7 - (last & 7));
  if (from === to) {
    bitmap[from]! |= head & tail;
    return;
  }
  bitmap[from]! |= head;
  bitmap.fill(0xff, from + 1, to);
  bitmap[to]! |= tail;
}
