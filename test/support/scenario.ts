// Runs a scenario in a process of its own and ends it from outside. A timer inside the scenario could
// not fire while its main thread sleeps in the kernel.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface ScenarioOptions {
  /** The parent kills the process after this time and reports HANG. Default 10,000. */
  timeoutMs?: number;
  /** Node options, for example `--expose-gc`. */
  nodeArgs?: string[];
  env?: NodeJS.ProcessEnv;
  /** Run as an ordinary user without privileges. */
  asNobody?: boolean;
  /** Further words for the scenario. */
  args?: string[];
}

export interface ScenarioResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  /** From spawn to exit, in milliseconds. */
  elapsedMs: number;
  /** From the line `READY` on stdout to exit: how long the ending itself took. */
  sinceReadyMs: number;
}

const NOBODY = 65_534;

/**
 * `file` is a module of test/scenarios, `name` a function it exports. It has a directory for temporary files
 * of its own, which is removed with all that it left there.
 */
export async function runScenario(
  file: string,
  name: string,
  options: ScenarioOptions = {},
): Promise<ScenarioResult> {
  const runner = path.join(__dirname, 'run-scenario.js');
  const temporary = mkdtempSync(path.join(tmpdir(), 'uffd-scenario-'));
  // Whoever the scenario becomes.
  chmodSync(temporary, 0o1777);
  const started = performance.now();
  const child = spawn(
    process.execPath,
    [
      ...(options.nodeArgs ?? []),
      runner,
      path.join(__dirname, '..', 'scenarios', `${file}.js`),
      name,
      ...(options.args ?? []),
    ],
    {
      env: { ...process.env, NODE_OPTIONS: '', TMPDIR: temporary, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(options.asNobody ? { uid: NOBODY, gid: NOBODY } : {}),
    },
  );
  let stdout = '';
  let stderr = '';
  let ready = started;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (text.includes('READY')) ready = performance.now();
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));

  const ended = new Promise<ScenarioResult>((resolve, reject) => {
    const timeoutMs = options.timeoutMs ?? 10_000;
    const timer = setTimeout(() => {
      const where = waitChannels(child.pid!);
      process.kill(child.pid!, 'SIGKILL');
      reject(
        new Error(`HANG: ${file}/${name} was killed after ${timeoutMs} ms\n${where}\n${stdout}${stderr}`),
      );
    }, timeoutMs);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const now = performance.now();
      resolve({ code, signal, stdout, stderr, elapsedMs: now - started, sinceReadyMs: now - ready });
    });
  });
  return ended.finally(() => rmSync(temporary, { recursive: true, force: true }));
}

/** Runs a scenario that must end by itself with code 0. */
export async function passScenario(
  file: string,
  name: string,
  options: ScenarioOptions = {},
): Promise<ScenarioResult> {
  const result = await runScenario(file, name, options);
  assert.equal(
    result.code,
    0,
    `${file}/${name} ended with code ${result.code}, signal ${result.signal}\n${result.stdout}${result.stderr}`,
  );
  return result;
}

/** Where each thread sleeps in the kernel. */
function waitChannels(pid: number): string {
  const read = (name: string): string => {
    try {
      return readFileSync(name, 'utf8').trim();
    } catch {
      return '?';
    }
  };
  try {
    return readdirSync(`/proc/${pid}/task`)
      .map(
        (tid) =>
          `  thread ${tid} ${read(`/proc/${pid}/task/${tid}/comm`)}: ${read(`/proc/${pid}/task/${tid}/wchan`)}`,
      )
      .join('\n');
  } catch {
    return '  (the process is gone)';
  }
}
