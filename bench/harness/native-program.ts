// The C programs of bench/native: built once for a run, then asked for one round at a time. Those that
// are called *_addon.c are loaded into the process instead, to use its own memory.

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { createInterface, type Interface } from 'node:readline';

/** This file is dist/bench/harness/native-program.js. */
const ROOT = path.join(__dirname, '..', '..', '..');
const SOURCES = path.join(ROOT, 'bench', 'native');
const FLAGS = [
  '-std=gnu11',
  '-O2',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-pthread',
  `-I${path.join(ROOT, 'native')}`,
];

/** Compiles every program into `directory`. */
export function buildNativePrograms(directory: string): void {
  const compiler = process.env['CC'] ?? 'cc';
  const programs = readdirSync(SOURCES).filter((name) => name.endsWith('.c'));
  for (const source of programs) {
    const isAddon = source.endsWith('_addon.c');
    const binary = path.join(directory, source.replace(/\.c$/, isAddon ? '.node' : ''));
    const { status, error, stderr } = spawnSync(
      compiler,
      [...FLAGS, ...(isAddon ? ['-shared', '-fPIC'] : []), '-o', binary, path.join(SOURCES, source)],
      { encoding: 'utf8' },
    );
    if (error !== undefined || status !== 0) {
      throw new Error(
        `bench/native/${source} cannot be compiled with ${compiler} (set CC for another): ${error?.message ?? stderr}`,
      );
    }
  }
}

/** Loads one that was compiled as an addon. */
export function loadNativeAddon(directory: string, name: string): unknown {
  return createRequire(__filename)(path.join(directory, `${name}.node`));
}

interface Waiting {
  resolve: (line: string) => void;
  reject: (error: Error) => void;
}

/** A running one. It says `ready`, and answers each line with a line of numbers. */
export class NativeProgram {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #waiting: Waiting[] = [];
  readonly #name: string;
  readonly #ended: Promise<unknown>;

  private constructor(name: string, child: ChildProcess) {
    this.#name = name;
    this.#child = child;
    this.#ended = once(child, 'close');
    this.#lines = createInterface({ input: child.stdout! });
    this.#lines.on('line', (line) => this.#waiting.shift()?.resolve(line));
    child.on('error', (error) => this.#fail(error.message));
    child.on('close', (code, signal) => this.#fail(`ended with ${signal ?? `code ${code}`}`));
  }

  static async start(directory: string, name: string, args: string[]): Promise<NativeProgram> {
    const child = spawn(path.join(directory, name), args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const program = new NativeProgram(name, child);
    const line = await program.#line();
    if (line !== 'ready') throw new Error(`bench/native/${name}.c said ${line} and not ready`);
    return program;
  }

  /** Does one round. */
  async round(...command: (string | number)[]): Promise<number[]> {
    const line = this.#line();
    this.#child.stdin!.write(`${command.join(' ')}\n`);
    return (await line).split(' ').map(Number);
  }

  async close(): Promise<void> {
    this.#child.stdin!.end();
    await this.#ended;
  }

  #line(): Promise<string> {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #fail(why: string): void {
    for (const { reject } of this.#waiting.splice(0))
      reject(new Error(`bench/native/${this.#name}.c: ${why}`));
  }
}
