// Runs the command as a user does, in a process that its parent ends when it hangs.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import path from 'node:path';

export const COMMAND = path.join(__dirname, '..', '..', 'lib', 'cli.js');

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
  /** After which it hangs, for this test. Default 30 seconds. */
  timeoutMs?: number;
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
    }, options.timeoutMs ?? 30_000);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr });
    });
  });
}

/** `userfaultfd ARGS`. */
export function runCommand(args: readonly string[], options?: RunOptions): Promise<Run> {
  return runNode([COMMAND, ...args], options);
}
