// Results as text for people.

import Table from 'cli-table3';
import type { Machine } from './machine.js';
import type { CaseResult, RowResult, RunOptions, Unit, Verdict } from './results.js';

export function machineText(machine: Machine, { scale, rounds }: RunOptions): string {
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  return [
    `Machine     ${machine.processor}, ${machine.processors} processors, ${gib(machine.memory)} (${gib(machine.memoryAvailable)} available)`,
    `Kernel      ${machine.kernel} ${machine.architecture}`,
    `Huge pages  transparent: ${machine.transparentHugePages}; reserved: ${machine.reservedHugePages}`,
    `Node.js     ${machine.node}`,
    `Load        ${machine.load.toFixed(2)} when the run began, ${machine.date}`,
    ...(scale === 1 && rounds === undefined
      ? []
      : [
          `Options     --scale ${scale}${rounds === undefined ? '' : ` --rounds ${rounds}`}: no figures to quote`,
        ]),
  ].join('\n');
}

/** Three digits of `value` in a unit that suits it. */
export function formatValue(value: number, unit: Unit): string {
  const scales: Record<Unit, [number, string][]> = {
    time: [
      [1e9, 's'],
      [1e6, 'ms'],
      [1e3, 'µs'],
      [1, 'ns'],
    ],
    bytes: [
      [2 ** 30, 'GiB'],
      [2 ** 20, 'MiB'],
      [2 ** 10, 'KiB'],
      [1, 'B'],
    ],
    'per second': [
      [1e6, 'M/s'],
      [1e3, 'k/s'],
      [1, '/s'],
    ],
  };
  const [divisor, name] = scales[unit].find(([least]) => Math.abs(value) >= least) ?? scales[unit].at(-1)!;
  return `${digits(value / divisor)} ${name}`;
}

function digits(value: number): string {
  return Math.abs(value) >= 99.95 ? value.toFixed(0) : value.toPrecision(3);
}

export function rowText(row: RowResult): string {
  const table = new Table({
    head: ['', 'p50', 'p90', 'p99', 'max', 'n'],
    style: { head: [], border: [], compact: true },
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right'],
  });
  for (const [name, { p50, p90, p99, max, count }] of Object.entries(row.sides)) {
    table.push([name, ...[p50, p90, p99, max].map((value) => formatValue(value, row.unit)), String(count)]);
  }
  return [
    `  ${row.name}`,
    indent(table.toString()),
    ...row.ratios.map(
      ({ of, to, p10, p50, p90, smallest }) =>
        `    ${of} / ${to}: ${digits(p50)} (pairs: p10 ${digits(p10)}, p90 ${digits(p90)}; of the smallest: ${digits(smallest)})`,
    ),
    ...row.verdicts.map((verdict) => `    ${verdictText(verdict, row.unit)}`),
    ...row.notes.map((note) => `    ${note}`),
  ].join('\n');
}

export function verdictText({ what, atMost, atLeast, value, met }: Verdict, unit: Unit): string {
  const show = (number: number): string =>
    what.includes(' / ') ? digits(number) : formatValue(number, unit);
  const bound = atMost === undefined ? `at least ${show(atLeast!)}` : `at most ${show(atMost)}`;
  return `${met ? 'met   ' : 'MISSED'}  ${what} ${bound}: ${show(value)}`;
}

/** The last lines of a run: how many targets were met, and what did not end well. */
export function summaryText(cases: readonly CaseResult[]): string {
  const verdicts = cases.flatMap((each) =>
    each.rows.flatMap((row) => row.verdicts.map((v) => ({ each, row, v }))),
  );
  const missed = verdicts.filter(({ v }) => !v.met);
  return [
    `${verdicts.length - missed.length} of ${verdicts.length} targets met`,
    ...missed.map(({ each, row, v }) => `  ${each.name}, ${row.name}: ${verdictText(v, row.unit)}`),
    ...cases
      .filter(({ outcome }) => outcome !== 'done')
      .map(({ name, outcome, reason }) => `  ${name}: ${outcome}: ${reason ?? ''}`),
  ].join('\n');
}

function indent(text: string): string {
  return text.replace(/^/gm, '    ');
}
