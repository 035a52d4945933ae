// npm run conformance: the matrix of test/support/conformance.ts, run and printed. Exit code 1 when an
// applicable cell fails.

import Table from 'cli-table3';
import { cells, footnote, KIND_NAMES, reasons, ROWS, runCell } from './support/conformance.js';

async function main(): Promise<number> {
  process.env['UFFD_TEST_ADDON'] = '1';
  const table = new Table({ head: ['row', ...KIND_NAMES], style: { head: [], border: [] } });
  const failures: string[] = [];
  let passed = 0;
  for (const row of ROWS) {
    const marks: string[] = [];
    for (const cell of cells().filter((each) => each.row === row)) {
      if (cell.whyNot !== undefined) {
        marks.push(footnote(cell.whyNot));
        continue;
      }
      try {
        await runCell(cell);
        passed++;
        marks.push('pass');
      } catch (error) {
        failures.push(`${row.name} on ${cell.kind}: ${String(error)}`);
        marks.push('FAIL');
      }
    }
    process.stderr.write('.');
    table.push([row.name, ...marks]);
  }
  process.stderr.write('\n');
  console.log(table.toString());
  for (const reason of reasons()) console.log(`${footnote(reason)} does not apply: ${reason}`);
  for (const failure of failures) console.error(`\n${failure}`);
  console.log(`${passed} passed, ${failures.length} failed`);
  return failures.length === 0 ? 0 : 1;
}

void main().then((code) => (process.exitCode = code));
