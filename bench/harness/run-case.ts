// Runs one case in a process of its own and ends it from outside when its time is over.

import { fork } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { BenchCase } from './bench.js';
import { memoryAvailable } from './machine.js';
import type { CaseResult, RowResult, RunOptions } from './results.js';

const CASES = path.join(__dirname, '..', 'cases');
/** What the harness and other programs need beside a case. */
const MARGIN = 512 * 2 ** 20;

/** Every file of bench/cases is one. */
export function caseNames(): string[] {
  return readdirSync(CASES)
    .filter((name) => name.endsWith('.js'))
    .map((name) => name.replace(/\.js$/, ''))
    .sort();
}

export async function runCase(
  name: string,
  binaries: string,
  options: RunOptions,
  onRow: (row: RowResult) => void,
): Promise<CaseResult> {
  const file = path.join(CASES, `${name}.js`);
  const { default: module } = (await import(file)) as { default: { default: BenchCase } };
  const { title, deadlineSeconds, needsBytes } = module.default;
  const result: CaseResult = { name, title, outcome: 'done', elapsedMs: 0, rows: [] };
  const needed = needsBytes * options.scale + MARGIN;
  if (needed > memoryAvailable()) {
    const [needs, has] = [needed, memoryAvailable()].map((bytes) => (bytes / 2 ** 30).toFixed(1));
    return {
      ...result,
      outcome: 'not run',
      reason: `it needs ${needs} GiB of memory and ${has} are free (--scale)`,
    };
  }
  const started = performance.now();
  const child = fork(path.join(__dirname, 'case-process.js'), [file, binaries, JSON.stringify(options)], {
    execArgv: ['--expose-gc'],
    serialization: 'advanced',
  });
  child.on('message', (row: RowResult) => {
    result.rows.push(row);
    onRow(row);
  });
  const ended = await new Promise<Pick<CaseResult, 'outcome' | 'reason'>>((resolve) => {
    const timer = setTimeout(() => {
      const where = waitChannels(child.pid!);
      child.kill('SIGKILL');
      resolve({ outcome: 'HANG', reason: `killed after ${deadlineSeconds} s\n${where}` });
    }, deadlineSeconds * 1000);
    child.on('error', (error) => resolve({ outcome: 'failed', reason: error.message }));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve(
        code === 0
          ? { outcome: 'done' }
          : { outcome: 'failed', reason: `ended with ${signal ?? `code ${code}`}` },
      );
    });
  });
  return { ...result, ...ended, elapsedMs: performance.now() - started };
}

/** Where each thread sleeps in the kernel. */
function waitChannels(pid: number): string {
  try {
    return readdirSync(`/proc/${pid}/task`)
      .map((id) => `  thread ${id}: ${readFileSync(`/proc/${pid}/task/${id}/wchan`, 'utf8')}`)
      .join('\n');
  } catch {
    return '  (the process is gone)';
  }
}
