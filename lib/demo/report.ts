// What the demo found, and how it looks: colours and blocks on a terminal, plain text elsewhere.

import { styleText } from 'node:util';
import Table from 'cli-table3';
import type { DirtyPages } from '../dirty-pages.js';
import { renderHeat } from '../heat.js';

export interface Step {
  label: string;
  runMs: number;
  /** Time to learn which pages were written and to re-arm them. */
  collectMs: number;
  pages: number;
  bytes: number;
  /** Share of written bytes, 0 to 1, in equal parts of the memory. */
  cells: number[];
}

export interface Check {
  name: string;
  passed: boolean;
  detail: string;
}

export interface Arming {
  ms: number;
  armedPages: number;
  writeReported: boolean;
}

export interface Unpopulated {
  pages: number;
  withFeature: Arming;
  withoutFeature: Arming;
  touchedFirst: Arming;
}

export interface DemoReport {
  machine: { kernel: string; node: string; user: number };
  python: string;
  engine: string;
  memoryBytes: number;
  pageSize: number;
  /** Copying the whole memory once, into memory that exists. */
  wholeCopyMs: number;
  statements: Step[];
  snapshot: { ms: number; bytes: number };
  /** One statement run and undone by a restore. */
  undo: { step: Step; ms: number; pages: number } | undefined;
  damage: Step[];
  restore: { ms: number; pages: number; bytes: number; wholeCopyBackMs: number; grownBytes: number };
  unpopulated: Unpopulated | undefined;
  checks: Check[];
  ok: boolean;
}

/** A terminal that knows its width: some pseudo-terminals say 0, and a spinner there never ends. */
export const onTerminal = process.stdout.isTTY && process.stdout.columns > 0;
const colored = onTerminal && process.env['NO_COLOR'] === undefined;
/** From untouched to all written. */
const SHADES = onTerminal ? ['·', '░', '▒', '▓', '█'] : ['.', ':', '+', '*', '#'];
const LABEL_WIDTH = 44;

function style(format: Parameters<typeof styleText>[0], text: string): string {
  return colored ? styleText(format, text) : text;
}

function milliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(1)} ms`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

export function headingText(report: DemoReport): string {
  const user = report.machine.user === 0 ? 'root' : `user ${report.machine.user}`;
  return [
    '',
    style('bold', `Python ${report.python} in ${mebibytes(report.memoryBytes)} of WebAssembly memory`),
    `Linux ${report.machine.kernel}, Node.js ${report.machine.node}, ${user}, engine ${report.engine}`,
    `Copying the whole memory takes ${milliseconds(report.wholeCopyMs)}.`,
  ].join('\n');
}

export function stepsText(title: string, steps: readonly Step[], report: DemoReport): string {
  const table = new Table({
    head: [
      'statement',
      'run',
      'pages',
      'bytes',
      'find them',
      'or copy all',
      'where (the memory from left to right)',
    ],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'left'],
    style: { head: colored ? ['bold'] : [], border: colored ? ['gray'] : [], compact: true },
    ...(onTerminal ? {} : { chars: PLAIN }),
  });
  for (const step of steps) {
    table.push([
      shorten(step.label),
      milliseconds(step.runMs),
      String(step.pages),
      mebibytes(step.bytes),
      milliseconds(step.collectMs),
      milliseconds(report.wholeCopyMs),
      strip(step.cells),
    ]);
  }
  return `\n${style('bold', title)}\n${table.toString()}`;
}

/** How often each page was written, all statements together. */
export function heatText(looks: readonly DirtyPages[]): string {
  const columns = Math.min(onTerminal ? process.stdout.columns : 80, 120);
  const picture = renderHeat(looks, { columns, rows: 4, color: colored, by: 'often' });
  return `\n${style('bold', 'The pages of the memory: cold where no statement wrote, hot where all did')}\n${picture}`;
}

/** cli-table3 without its frame. */
const PLAIN = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: ' ',
};

export function unpopulatedText(found: Unpopulated): string {
  const { pages, withFeature, withoutFeature, touchedFirst } = found;
  const line = (name: string, arming: Arming): string =>
    `  ${name.padEnd(34)} ${String(arming.armedPages).padStart(6)} of ${pages} pages armed in ${milliseconds(arming.ms)}; ` +
    `the first write was ${arming.writeReported ? 'seen' : 'missed'}`;
  return [
    '',
    style('bold', 'Arming memory that nobody has touched'),
    line('with WP_UNPOPULATED', withFeature),
    line('without it', withoutFeature),
    line('without it, reading each page first', touchedFirst),
  ].join('\n');
}

export function checksText(report: DemoReport): string {
  const { restore, snapshot, undo } = report;
  const lines = [
    '',
    style('bold', 'Snapshot and restore'),
    `  snapshot  ${mebibytes(snapshot.bytes)} copied in ${milliseconds(snapshot.ms)}`,
    ...(undo === undefined
      ? []
      : [`  undo      ${undo.pages} pages of one statement put back in ${milliseconds(undo.ms)}`]),
    `  restore   ${restore.pages} pages (${mebibytes(restore.bytes)}) put back in ${milliseconds(restore.ms)}; ` +
      `copying all ${mebibytes(snapshot.bytes + restore.grownBytes)} takes ${milliseconds(restore.wholeCopyBackMs)}`,
    '',
    style('bold', 'Checks'),
    ...report.checks.map(({ name, passed, detail }) => {
      const mark = passed ? style('green', 'ok  ') : style('red', 'FAIL');
      return `  ${mark} ${name}${detail === '' ? '' : ` (${detail})`}`;
    }),
    '',
    report.ok ? style('green', 'All checks passed.') : style('red', 'Some checks FAILED.'),
  ];
  return lines.join('\n');
}

function shorten(label: string): string {
  return label.length <= LABEL_WIDTH ? label : `${label.slice(0, LABEL_WIDTH - 1)}…`;
}

function strip(cells: readonly number[]): string {
  const shade = (share: number): string => {
    if (share === 0) return style('dim', SHADES[0]!);
    const level = Math.min(Math.ceil(share * (SHADES.length - 1)), SHADES.length - 1);
    return style(share > 0.5 ? 'red' : 'yellow', SHADES[level]!);
  };
  return cells.map(shade).join('');
}
