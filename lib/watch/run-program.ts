// The watched program as a child process that behaves as if it had been started by itself.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { Readable } from 'node:stream';
import type { ProgramEnd } from './display.js';
import { WATCH_VARIABLE } from './names.js';
import type { WatchConfig } from './records.js';

/** Signals that end or steer programs: the program decides what they mean. */
const PASSED_ON = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2'] as const;
/** Those the terminal sends to the program as well. */
const FROM_TERMINAL: readonly string[] = ['SIGINT', 'SIGQUIT'];
const DESCRIPTOR = 3;
/** How long records may still come when the program has ended. */
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
  const records = child.stdio[DESCRIPTOR] as Readable;
  return { records, ended: endOf(child, records) };
}

async function endOf(child: ChildProcess, records: Readable): Promise<ProgramEnd> {
  // A reset is an end, too.
  const allRead = new Promise((resolve) => records.once('close', resolve).on('error', resolve));
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  const late = new Promise((resolve) => setTimeout(resolve, LAST_RECORDS_MS).unref());
  await Promise.race([allRead, late]);
  records.destroy();
  return { code, signal };
}

function passOnSignals(child: ChildProcess): void {
  const onTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
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
  process.kill(process.pid, signal);
}
