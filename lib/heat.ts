// What was written, as a picture for the terminal.

import type { DirtyPages } from './dirty-pages.js';
import { invalidType, invalidValue } from './errors.js';
import { checkInteger, checkOneOf, checkOptions } from './validate.js';

export interface HeatOptions {
  /** Cells in a line. Default: the width of the terminal, or 80. */
  columns?: number;
  /** Lines at most; a memory with fewer pages than cells takes fewer. Default 1. */
  rows?: number;
  /** Escape sequences for 256 colours. Default: whether standard output is a terminal that has them. */
  color?: boolean;
  /** `'recent'` (default): how long ago a page was written. `'often'`: in how many of the sets it is. */
  by?: 'recent' | 'often';
  /** Which of several memories. Default 0. */
  memory?: number;
}

/** From never to just now, or to always. */
const CHARACTERS = ' .:+*#';
/** The same as colours of the 256, dark blue to bright red. */
const COLORS = [234, 18, 27, 35, 214, 196];
const HOTTEST = CHARACTERS.length - 1;

/** @internal What one look found in one memory. */
export interface HeatLook {
  /** Bytes, of the memory and of a page. */
  byteLength: number;
  pageSize: number;
  /** `[offset, length, …]` in bytes, ascending. */
  ranges: ArrayLike<number>;
}

/**
 * Draws what a series of looks found, oldest first: pages in address order, a cell for one or several,
 * as hot as the hottest of them.
 */
export function renderHeat(history: readonly DirtyPages[], options: HeatOptions = {}): string {
  const { columns, rows, color, by, memory } = checkHeatOptions(options);
  if (!Array.isArray(history)) throw invalidType('history', 'an array of DirtyPages', history);
  if (history.length === 0) throw invalidValue('history', 'must not be empty', history);
  const looks = history.map((dirty: DirtyPages) => ({
    byteLength: dirty.memoryByteLength(memory),
    pageSize: dirty.of(memory).pageSize,
    ranges: dirty.toFloat64Array(memory),
  }));
  return drawHeat(looks, { columns, rows, color, by });
}

function checkHeatOptions(options: unknown): Required<HeatOptions> {
  const {
    columns = terminal().columns ?? 80,
    rows = 1,
    color = terminal().hasColors?.(256) ?? false,
    by,
    memory = 0,
  } = checkOptions('options', options, ['columns', 'rows', 'color', 'by', 'memory']);
  checkInteger('options.columns', columns, 1, 10_000);
  checkInteger('options.rows', rows, 1, 10_000);
  checkInteger('options.memory', memory, 0, Number.MAX_SAFE_INTEGER);
  if (typeof color !== 'boolean') throw invalidType('options.color', 'of type boolean', color);
  return { columns, rows, color, by: checkOneOf('options.by', by ?? 'recent', ['recent', 'often']), memory };
}

/** @internal The same of what is known to be right. */
export function drawHeat(
  history: readonly HeatLook[],
  { columns, rows, color, by }: Required<Omit<HeatOptions, 'memory'>>,
): string {
  const cells = heatOf(history, columns * rows, by);
  const lines: string[] = [];
  for (let at = 0; at < cells.length; at += columns) {
    const line = cells.subarray(at, at + columns);
    lines.push(color ? colored(line) : Array.from(line, (heat) => CHARACTERS[heat]).join(''));
  }
  return lines.join('\n');
}

/** Standard output has these only when it is a terminal. */
function terminal(): { columns?: number; hasColors?: (count: number) => boolean } {
  return process.stdout;
}

/** The heat of each of at most `most` cells, 0 to HOTTEST. */
function heatOf(history: readonly HeatLook[], most: number, by: 'recent' | 'often'): Uint8Array {
  const { pageSize } = history[0]!;
  const bytes = Math.max(...history.map(({ byteLength }) => byteLength));
  const pages = Math.max(Math.ceil(bytes / pageSize), 1);
  const cellBytes = Math.ceil(pages / most) * pageSize;
  const cells = new Uint8Array(Math.ceil((pages * pageSize) / cellBytes));
  const times = new Uint32Array(cells.length);
  for (const [age, { ranges }] of history.entries()) {
    let done = -1;
    for (let i = 0; i < ranges.length; i += 2) {
      const first = Math.max(Math.floor(ranges[i]! / cellBytes), done + 1);
      done = Math.floor((ranges[i]! + ranges[i + 1]! - 1) / cellBytes);
      for (let cell = first; cell <= done; cell++) {
        if (by === 'often') times[cell]!++;
        else times[cell] = age + 1;
      }
    }
  }
  for (const [cell, count] of times.entries()) cells[cell] = Math.ceil((count / history.length) * HOTTEST);
  return cells;
}

/** Neighbours of one colour share its sequence. */
function colored(line: Uint8Array): string {
  let text = '';
  let last = -1;
  for (const heat of line) {
    if (heat !== last) text += `\u001b[48;5;${COLORS[heat]!}m`;
    text += ' ';
    last = heat;
  }
  return `${text}\u001b[0m`;
}
