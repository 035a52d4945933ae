// The benchmark: every case in a process of its own, beside C programs built here and now.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { thisMachine } from './harness/machine.js';
import { buildNativePrograms } from './harness/native-program.js';
import { machineText, rowText, summaryText } from './harness/report.js';
import type { RunOptions, RunResult } from './harness/results.js';
import { caseNames, runCase } from './harness/run-case.js';

export interface BenchOptions extends RunOptions {
  /** Where to write the results. */
  json: string | undefined;
}

export { caseNames };

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Runs these cases (all when none is named) and prints them; resolves to whether each came to its end. */
export async function runBench(
  names: readonly string[],
  { json, ...options }: BenchOptions,
): Promise<boolean> {
  const known = caseNames();
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new RangeError(`no case is named ${unknown.join(', ')}; there are ${known.join(', ')}`);
  }
  const result: RunResult = { machine: thisMachine(), options, cases: [] };
  console.log(machineText(result.machine, options));
  const binaries = mkdtempSync(path.join(os.tmpdir(), 'userfaultfd-bench-'));
  const removeBinaries = (): void => rmSync(binaries, { recursive: true, force: true });
  const interrupted = (signal: NodeJS.Signals): void => {
    removeBinaries();
    process.kill(process.pid, signal);
  };
  for (const signal of SIGNALS) process.once(signal, interrupted);
  try {
    buildNativePrograms(binaries);
    for (const name of known.filter((each) => names.length === 0 || names.includes(each))) {
      console.log(`\n${name}`);
      const done = await runCase(name, binaries, options, (row) => console.log(rowText(row)));
      if (done.outcome !== 'done') console.log(`  ${done.outcome}: ${done.reason ?? ''}`);
      result.cases.push(done);
      // After each: a run that is stopped keeps what it has.
      if (json !== undefined) writeFileSync(json, `${JSON.stringify(result, undefined, 1)}\n`);
    }
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupted);
    removeBinaries();
  }
  console.log(`\n${summaryText(result.cases)}`);
  return result.cases.every(({ outcome }) => outcome === 'done');
}
