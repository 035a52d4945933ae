// Runs `userfaultfd watch` as a user does, in a process that its parent ends when it hangs.

import assert from 'node:assert/strict';
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import path from 'node:path';

export const COMMAND = path.join(__dirname, '..', '..', 'lib', 'cli.js');
/** Small programs, chosen by their first argument. */
export const PROGRAMS = path.join(__dirname, '..', 'scenarios', 'watch-programs.js');

const NOBODY = 65_534;

export interface Run {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  nodeArgs?: string[];
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** What standard input has; it is then at its end. Default nothing. */
  input?: string;
  /** Run as an ordinary user without privileges. */
  asNobody?: boolean;
  /** Sees the process when it is started. */
  started?: (child: ChildProcessWithoutNullStreams) => void;
}

/** `node ARGS`, until it has ended. */
export async function runNode(args: readonly string[], options: RunOptions = {}): Promise<Run> {
  const child = spawn(process.execPath, [...(options.nodeArgs ?? []), ...args], {
    cwd: options.cwd,
    env: { ...process.env, NODE_OPTIONS: '', ...options.env },
    ...(options.asNobody === true ? { uid: NOBODY, gid: NOBODY } : {}),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.on('error', () => undefined);
  if (options.input !== undefined) child.stdin.end(options.input);
  options.started?.(child);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      process.kill(child.pid!, 'SIGKILL');
      reject(new Error(`HANG: node ${args.join(' ')}\n${stdout}${stderr}`));
    }, 30_000);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr });
    });
  });
}

/** `userfaultfd watch OPTIONS PROGRAM`, with the words of a test program. */
export function watch(
  watchOptions: readonly string[],
  program: readonly string[],
  options?: RunOptions,
): Promise<Run> {
  return runNode([COMMAND, 'watch', ...watchOptions, PROGRAMS, ...program], options);
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
