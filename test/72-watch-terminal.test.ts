// The live picture on a terminal: an emulator shows what a user sees.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { Terminal } from '@xterm/headless';
import { COMMAND } from './support/command.js';
import { PROGRAMS } from './support/watch.js';

const ROWS = 12;
const COLUMNS = 80;
const TERMINAL = path.join(__dirname, '..', '..', 'test', 'support', 'terminal.py');
const LINES = Array.from({ length: 30 }, (_, i) => `line ${i} of the program`);
/** What ends the picture: the whole terminal scrolls again. */
const ALL_LINES = '\u001b[r';

interface Shown {
  code: number | null;
  output: string;
}

async function onTerminal(
  words: readonly string[],
  options: { rows?: number; typed?: [when: string, text: string]; env?: NodeJS.ProcessEnv } = {},
): Promise<Shown> {
  const [when, typed] = options.typed ?? ['', ''];
  const command = [process.execPath, COMMAND, 'watch', '--interval', '20', ...words];
  const child = spawn(
    'python3',
    [TERMINAL, String(options.rows ?? ROWS), String(COLUMNS), when, typed, ...command],
    {
      // Nothing else of ours: what there is of colour would follow whoever runs the tests (CI, NO_COLOR, …).
      env: { PATH: process.env['PATH'], TERM: 'xterm-256color', ...options.env },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      process.kill(child.pid!, 'SIGKILL');
      reject(new Error(`HANG: ${command.join(' ')}\n${output}`));
    }, 30_000);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    });
  });
}

/** The lines of the terminal when it has been given this: those that scrolled out, and the screen. */
async function screenOf(output: string, rows = ROWS): Promise<{ all: string[]; screen: string[] }> {
  const terminal = new Terminal({ rows, cols: COLUMNS, allowProposedApi: true });
  await new Promise<void>((resolve) => {
    terminal.write(output, resolve);
  });
  const buffer = terminal.buffer.active;
  const all = Array.from({ length: buffer.length }, (_, i) => buffer.getLine(i)!.translateToString(true));
  return { all, screen: all.slice(buffer.baseY) };
}

/** The program's lines are there, each once and in order, and the terminal scrolls as a whole. */
async function assertWhole({ output }: Shown): Promise<void> {
  const { all } = await screenOf(output);
  assert.deepEqual(
    all.filter((line) => line.startsWith('line ')),
    LINES,
  );
  const marker = Array.from({ length: ROWS }, (_, i) => `after ${i}`);
  const { screen } = await screenOf(`${output}\r\n${marker.join('\r\n')}`);
  assert.deepEqual(screen, marker);
}

test('it draws below what the program prints, and leaves the terminal as it was', async () => {
  const shown = await onTerminal([PROGRAMS, 'lines', 'seen'], {
    typed: ['| 1 memory', '\n'],
    env: { NO_COLOR: '1' },
  });
  assert.equal(shown.code, 0, shown.output);
  assert.match(shown.output, /terminal: true true true/);
  await assertWhole(shown);
  const { all } = await screenOf(shown.output);
  const end = all.indexOf('no end of line');
  assert.match(all[end + 1]!, /^userfaultfd: \d+\.\d s, exit code 0, 1 memory/);
  assert.ok(all.includes('  #1 WebAssembly.Memory 1.0 MiB: 30 pages written, 120.0 KiB'));

  const { screen } = await screenOf(shown.output.slice(0, shown.output.lastIndexOf(ALL_LINES)));
  const picture = screen.slice(-3);
  assert.match(picture[0]!, /^userfaultfd \d+\.\d s \| (last look .* ago \| )?1 memory \| wp-async/);
  assert.match(picture[1]!, /^#1 WebAssembly\.Memory 1\.0 MiB {2}.* pages\/s/);
  assert.match(picture[2]!, /^[ .:+*#]+$/);
  assert.equal(screen[ROWS - 4], 'no end of line');
  assert.ok(!shown.output.includes('\u001b[48;5;'), 'no colours');
});

test('it draws in colour where there is colour', async () => {
  for (const [env, colour] of [
    [{}, true],
    [{ TERM: 'vt100' }, false],
    [{ CI: '1' }, false],
  ] as const) {
    const shown = await onTerminal([PROGRAMS, 'lines', 'seen'], { typed: ['| 1 memory', '\n'], env });
    assert.equal(shown.output.includes('\u001b[48;5;196m'), colour, JSON.stringify(env));
  }
});

test('it leaves the terminal whole when the program is interrupted, killed or throws', async () => {
  const typed: [string, string] = ['no end of line', '\u0003'];
  for (const [end, code, says] of [
    ['interrupted', 128 + 2, /signal SIGINT/],
    ['killed', 128 + 9, /signal SIGKILL/],
    ['throws', 1, /Error: thrown by the program/],
  ] as const) {
    const shown = await onTerminal([PROGRAMS, 'lines', end], end === 'interrupted' ? { typed } : {});
    assert.equal(shown.code, code, shown.output);
    assert.match(shown.output, says);
    await assertWhole(shown);
  }
});

test('it draws nothing where there is no room', async () => {
  const shown = await onTerminal([PROGRAMS, 'lines'], { rows: 4 });
  assert.equal(shown.code, 0);
  assert.ok(!shown.output.includes('\u001b7'));
  assert.match(shown.output, /30 pages written/);
});
