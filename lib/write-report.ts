// What was written, for people who look at a test that failed.

import { binding } from './binding.js';
import { bytesIn, intersectionOf, ListReader, type RangeList } from './range-list.js';

/** One memory after a function ran. */
export interface Written {
  view: Uint8Array;
  /** Its bytes before; shorter when the memory grew. */
  copy: Uint8Array;
  pages: RangeList;
  /** Those of the pages' bytes that differ. */
  bytes: RangeList;
  pageSize: number;
}

const SHOWN_PAGES = 4;
const SHOWN_ROWS = 2;
const ROW_BYTES = 16;

/** The pages that lie in the ranges whole. */
export function pageRangesInside(ranges: RangeList, written: Written): RangeList {
  return rounded(ranges, written, Math.ceil, Math.floor);
}

/** The pages that lie in the ranges in part. */
export function pageRangesOf(ranges: RangeList, written: Written): RangeList {
  return rounded(ranges, written, Math.floor, Math.ceil);
}

type Round = (pages: number) => number;

function rounded(ranges: RangeList, { view, pageSize }: Written, from: Round, to: Round): RangeList {
  const lead = binding().addressInPage(view, pageSize);
  const pages: number[] = [];
  let done = 0;
  for (let i = 0; i < ranges.length; i += 2) {
    const start = Math.max(from((lead + ranges[i]!) / pageSize) * pageSize - lead, done);
    const end = to((lead + ranges[i]! + ranges[i + 1]!) / pageSize) * pageSize - lead;
    if (end <= start) continue;
    // Ranges that share a page are one.
    if (start === done && pages.length > 0) pages[pages.length - 1]! += end - start;
    else pages.push(start, end - start);
    done = end;
  }
  return Float64Array.from(pages);
}

/** `2 pages were written, 20 bytes differ:` and the first of them, byte by byte. */
export function describeWrites(written: Written, ranges: RangeList): string {
  const pages = pageRangesOf(ranges, written);
  const differing = intersectionOf(written.bytes, pages);
  const count = countPages(pages, written);
  if (count === 0) return 'Nothing was written.';
  const lines = [
    `${plural(count, 'page was', 'pages were')} written, ${plural(bytesIn(new ListReader(differing)), 'byte differs', 'bytes differ')}:`,
  ];
  let shown = 0;
  for (const page of eachPage(pages, written)) {
    if (shown++ === SHOWN_PAGES) break;
    lines.push(...pageLines(written, page));
  }
  if (count > SHOWN_PAGES) lines.push(`  … ${plural(count - SHOWN_PAGES, 'more page', 'more pages')}`);
  return lines.join('\n');
}

/** Number of the page that holds a byte. */
function pageOf(offset: number, { view, pageSize }: Written): number {
  return Math.floor((binding().addressInPage(view, pageSize) + offset) / pageSize);
}

function countPages(pages: RangeList, written: Written): number {
  let count = 0;
  for (let i = 0; i < pages.length; i += 2) {
    count += pageOf(pages[i]! + pages[i + 1]! - 1, written) - pageOf(pages[i]!, written) + 1;
  }
  return count;
}

function* eachPage(pages: RangeList, written: Written): Generator<RangeList, undefined> {
  const { view, pageSize } = written;
  const lead = binding().addressInPage(view, pageSize);
  for (let i = 0; i < pages.length; i += 2) {
    const end = Math.min(pages[i]! + pages[i + 1]!, view.byteLength);
    for (let at = pages[i]!; at < end;) {
      const next = Math.min((pageOf(at, written) + 1) * pageSize - lead, end);
      yield Float64Array.of(at, next - at);
      at = next;
    }
  }
  return undefined;
}

function pageLines(written: Written, page: RangeList): string[] {
  const differing = intersectionOf(written.bytes, page);
  const head = `  page ${pageOf(page[0]!, written)}, offset ${page[0]!} (${hexadecimal(page[0]!)})`;
  if (differing.length === 0) return [`${head}: written with the bytes it had`];
  const lines = [`${head}: ${plural(bytesIn(new ListReader(differing)), 'byte differs', 'bytes differ')}`];
  let next = 0;
  let rows = 0;
  for (let i = 0; i < differing.length && rows < SHOWN_ROWS; i += 2) {
    const end = differing[i]! + differing[i + 1]!;
    for (let row = rowOf(Math.max(differing[i]!, next)); row < end && rows < SHOWN_ROWS; row += ROW_BYTES) {
      lines.push(...rowLines(written, row));
      next = row + ROW_BYTES;
      rows++;
    }
    // The rest of this range, or the ranges of a row that was shown.
    while (i + 2 < differing.length && differing[i + 2]! + differing[i + 3]! <= next) i += 2;
  }
  if (rows === SHOWN_ROWS && differing.at(-2)! + differing.at(-1)! > next) lines.push('    …');
  return lines;
}

function rowOf(offset: number): number {
  return Math.floor(offset / ROW_BYTES) * ROW_BYTES;
}

function rowLines({ view, copy }: Written, row: number): string[] {
  const label = hexadecimal(row);
  return [
    `    ${label}  before  ${rowText(copy, row)}`,
    `    ${' '.repeat(label.length)}  after   ${rowText(view, row)}`,
  ];
}

function rowText(bytes: Uint8Array, row: number): string {
  let hex = '';
  let text = '';
  for (let at = row; at < row + ROW_BYTES; at++) {
    const byte = bytes[at];
    hex += byte === undefined ? '-- ' : `${byte.toString(16).padStart(2, '0')} `;
    text += byte === undefined ? ' ' : byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.';
  }
  return `${hex} |${text}|`;
}

function hexadecimal(offset: number): string {
  return `0x${offset.toString(16)}`;
}

function plural(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}
