// npm run bench:plot [-- FILE]: draws a recorded run as SVG, and writes its tables into docs/performance.md.
import * as echarts from 'echarts';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatValue, machineText, verdictText } from '../dist/bench/harness/report.js';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const file = process.argv[2] ?? path.join(root, 'docs', 'performance', 'results.json');
const directory = path.join(root, 'docs', 'performance');
const { machine, options, cases } = JSON.parse(readFileSync(file, 'utf8'));
const machineLine = `${machine.processor}, ${machine.processors} processors, Linux ${machine.kernel}, Node.js ${machine.node}, ${machine.date.slice(0, 10)}`;

const ms = (nanoseconds) => Number((nanoseconds / 1e6).toPrecision(3));
const us = (nanoseconds) => Number((nanoseconds / 1e3).toPrecision(3));
const mib = (bytes) => Number((bytes / 2 ** 20).toPrecision(3));
const rowsOf = (name) => cases.find((each) => each.name === name)?.rows ?? [];

/** Bars for each row and side; `sides` maps a side of the results to its name in the figure. */
function bars(name, title, rows, sides, { unit, convert, log = true }) {
  if (rows.length === 0) return undefined;
  return {
    name,
    option: {
      title: { text: title, subtext: machineLine, left: 'center' },
      legend: { bottom: 0 },
      grid: { left: 80, right: 30, top: 80, bottom: 90 },
      xAxis: {
        type: 'category',
        data: rows.map((row) => row.name),
        axisLabel: { interval: 0, width: 110, overflow: 'break' },
      },
      yAxis: { type: log ? 'log' : 'value', name: `${unit} (p50)`, logBase: 10 },
      series: sides.map((side) => ({
        name: side,
        type: 'bar',
        data: rows.map((row) => (row.sides[side] === undefined ? '-' : convert(row.sides[side].p50))),
        label: { show: true, position: 'top', fontSize: 10 },
      })),
    },
  };
}

const armRows = rowsOf('arm').filter((row) => row.name.startsWith('PRE-READ'));
const collectRows = rowsOf('collect').filter((row) => row.sides['bare ioctl'] !== undefined);
const figures = [
  bars(
    'arm',
    'Write-protecting 10 GiB that nobody has touched',
    armRows.map((row) => ({ ...row, name: row.name.replace('PRE-READ and MADVISE, ', '') })),
    ['WP-UNPOPULATE', 'PRE-READ', 'PRE-READ in C', 'MADVISE in C'],
    { unit: 'ms', convert: ms },
  ),
  bars('collect', 'collect() of 1 GiB', collectRows, ['package', 'bare ioctl'], {
    unit: 'ms',
    convert: ms,
    log: false,
  }),
  bars(
    'write-tax',
    'Writing a byte to a page: the first time',
    rowsOf('write-tax').filter((row) => row.sides.first !== undefined),
    ['untracked', 'first', 'first in C', 'mprotect and SIGSEGV in C'],
    { unit: 'µs', convert: us },
  ),
  bars(
    'restore',
    'Putting back 1 % of 1 GiB',
    rowsOf('restore'),
    ['package', 'scan, memcpy, arm in C', 'collect, memcpy in C', 'copy all back'],
    { unit: 'ms', convert: ms },
  ),
  bars(
    'history',
    'The pause of an entry of a history, 1 % of 1 GiB written',
    rowsOf('history'),
    ['package', 'collect, memcpy in C', 'collect in C'],
    { unit: 'ms', convert: ms, log: false },
  ),
  bars('save', 'Saving 1 GiB, synced', rowsOf('save'), ['snapshot.save()', 'fs.writeFile, flush'], {
    unit: 'MiB a second',
    convert: mib,
    log: false,
  }),
  bars(
    'fault-round-trip',
    'From the touch of a page to the next instruction',
    rowsOf('fault-round-trip'),
    [
      'package',
      'native',
      'JavaScript in a Worker',
      'JavaScript in a Worker, reading a file',
      'C, asleep',
      'C, spinning',
    ],
    { unit: 'µs', convert: us, log: false },
  ),
  bars(
    'growth',
    'Cost per GiB as memory grows',
    rowsOf('growth').filter((row) => row.name.includes('per GiB')),
    ['1 GiB', '2 GiB', '4 GiB', '8 GiB', '16 GiB', '1 GiB in C', '16 GiB in C'],
    { unit: 'ms per GiB', convert: ms, log: false },
  ),
].filter((figure) => figure !== undefined);

mkdirSync(directory, { recursive: true });
for (const { name, option } of figures) {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 900, height: 460 });
  chart.setOption({ ...option, backgroundColor: '#fff', animation: false });
  writeFileSync(path.join(directory, `${name}.svg`), `${chart.renderToSVGString()}\n`);
  chart.dispose();
}

const MARKERS = ['<!-- written by npm run bench:plot -->', '<!-- end -->'];
const page = path.join(root, 'docs', 'performance.md');
const [before, rest] = readFileSync(page, 'utf8').split(MARKERS[0]);
const [, after] = rest.split(MARKERS[1]);
writeFileSync(page, `${before}${MARKERS[0]}\n\n${tables()}\n\n${MARKERS[1]}${after}`);
console.log(`${figures.length} figures and docs/performance.md`);

function tables() {
  const code = ['```', machineText(machine, options), '```'].join('\n');
  return [code, ...cases.map(caseTable)].join('\n\n');
}

function caseTable({ name, title, outcome, reason, rows }) {
  const figure = figures.some((each) => each.name === name)
    ? [`![${title}](performance/${name}.svg)`, '']
    : [];
  return [
    `### ${title}`,
    '',
    `\`npm run bench -- ${name}\``,
    '',
    ...(outcome === 'done' ? [] : [`**${outcome}**: ${reason}`, '']),
    ...figure,
    '| | | p50 | p90 | p99 | max |',
    '|---|---|---|---|---|---|',
    ...rows.flatMap((row) =>
      Object.entries(row.sides).map(([side, { p50, p90, p99, max }], i) => {
        const cells = [p50, p90, p99, max].map((value) => formatValue(value, row.unit));
        return `| ${i === 0 ? row.name : ''} | ${side} | ${cells.join(' | ')} |`;
      }),
    ),
    '',
    ...rows.flatMap((row) => [
      ...row.verdicts.map(
        (verdict) => `- ${row.name}: ${verdictText(verdict, row.unit).replace(/ +/g, ' ')}`,
      ),
      ...row.notes.map((note) => `- ${row.name}: ${note}`),
    ]),
  ].join('\n');
}
