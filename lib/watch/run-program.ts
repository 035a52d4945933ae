// The watched program as a child process that behaves as if it had been started by itself.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { isatty } from 'node:tty';
import type { ProgramEnd } from './display.js';
import { WATCH_VARIABLE } from './names.js';
import type { WatchConfig } from './records.js';

/** Signals that end or steer programs: the program decides what they mean. */
const PASSED_ON = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2'] as const;
/** Those the terminal sends to the program as well. */
const FROM_TERMINAL: readonly string[] = ['SIGINT', 'SIGQUIT'];
const DESCRIPTOR = 3;
/** Nothing comes any more when nothing came for so long after the end. */
const LAST_RECORDS_MS = 1000;

export interface RunningProgram {
  /** What its preload writes. */
  records: Readable;
  /** When it has ended and all its records came. */
  ended: Promise<ProgramEnd>;
}

export function runProgram(
  script: string,
  args: readonly string[],
  config: Omit<WatchConfig, 'parent' | 'descriptor'>,
): RunningProgram {
  const watch: WatchConfig = { ...config, parent: process.pid, descriptor: DESCRIPTOR };
  const preload = path.join(__dirname, 'preload.js');
  const child = spawn(process.execPath, [...process.execArgv, '--require', preload, '--', script, ...args], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    env: { ...process.env, [WATCH_VARIABLE]: JSON.stringify(watch) },
  });
  passOnSignals(child);
  // A reset is an end like any other.
  const records = (child.stdio[DESCRIPTOR] as Readable).on('error', () => undefined);
  return { records, ended: endOf(child, records) };
}

async function endOf(child: ChildProcess, records: Readable): Promise<ProgramEnd> {
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  await lastOf(records);
  return { code, signal };
}

/** Resolves at the end of what is written, or when nothing comes: somebody else may have the descriptor. */
async function lastOf(records: Readable): Promise<void> {
  let silent = true;
  let timer: NodeJS.Timeout | undefined;
  records.on('data', () => (silent = false));
  await new Promise<void>((resolve) => {
    if (records.destroyed) resolve();
    records.once('close', resolve);
    timer = setInterval(() => {
      // Paused: somebody reads slowly what is there.
      if (silent && !records.isPaused()) resolve();
      silent = true;
    }, LAST_RECORDS_MS);
  });
  clearInterval(timer);
  records.destroy();
}

function passOnSignals(child: ChildProcess): void {
  // Not process.stdin and its like: they would make pipes non-blocking, which are the program's.
  const onTerminal = [0, 1, 2].some(isatty);
  for (const signal of PASSED_ON) {
    const passOn = (): void => {
      // Ctrl-C reaches the program by itself; a second one would mean something else to many.
      if (!(onTerminal && FROM_TERMINAL.includes(signal))) child.kill(signal);
    };
    process.on(signal, passOn);
    child.once('exit', () => process.off(signal, passOn));
  }
}

/** Ends this process as the program ended. */
export function endLike({ code, signal }: ProgramEnd): void {
  if (signal === null) {
    process.exitCode = code ?? 1;
    return;
  }
  process.exitCode = 128 + constants.signals[signal];
  process.kill(process.pid, signal);
}
