// Runs `userfaultfd watch`, and reads what it writes.

import assert from 'node:assert/strict';
import path from 'node:path';
import { runCommand, type Run, type RunOptions } from './command.js';

/** Small programs, chosen by their first argument. */
export const PROGRAMS = path.join(__dirname, '..', 'scenarios', 'watch-programs.js');

/** `userfaultfd watch OPTIONS PROGRAM`, with the words of a test program. */
export function watch(
  watchOptions: readonly string[],
  program: readonly string[],
  options?: RunOptions,
): Promise<Run> {
  return runCommand(['watch', ...watchOptions, PROGRAMS, ...program], options);
}

export interface MemoryRecord {
  type: 'memory';
  time: number;
  memory: number;
  thread: number;
  kind: string;
  state: string;
  byteLength: number;
  exact: boolean;
  pages: number;
  bytes: number;
  pagesPerSecond: number;
  share: number;
  totalPages: number;
  ranges: { offset: number; length: number }[];
  threadIds?: number[];
}
export interface MarkRecord {
  type: 'mark';
  names: string[];
  unnamed: number;
  thread: number;
  pages: number;
  bytes: number;
  memories: { memory: number; pages: number; bytes: number }[];
}
export interface EndRecord {
  type: 'end';
  code: number | null;
  signal: string | null;
  complete: boolean;
  memories: number;
  marks: number;
}
type Record =
  | MemoryRecord
  | MarkRecord
  | EndRecord
  | { type: 'thread'; thread: number; engine: string }
  | { type: 'problem'; message: string };

/** The records of `--json`; lines of the program itself are left out. */
export function recordsOf(text: string): Record[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{"type":'))
    .map((line) => JSON.parse(line) as Record);
}

export function only<T extends Record['type']>(records: Record[], type: T): Extract<Record, { type: T }>[] {
  return records.filter((record): record is Extract<Record, { type: T }> => record.type === type);
}

/** Runs a test program under `watch --json`; it must end well. */
export async function watchJson(
  program: readonly string[],
  watchOptions: readonly string[] = [],
  options?: RunOptions,
): Promise<{ stdout: string; memories: MemoryRecord[]; marks: MarkRecord[]; end: EndRecord }> {
  const run = await watch(['--json', ...watchOptions], program, options);
  assert.equal(run.code, 0, run.stdout + run.stderr);
  const records = recordsOf(run.stderr);
  assert.deepEqual(only(records, 'problem'), []);
  return {
    stdout: run.stdout,
    memories: only(records, 'memory'),
    marks: only(records, 'mark'),
    end: only(records, 'end')[0]!,
  };
}
