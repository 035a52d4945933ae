// npx userfaultfd watch: runs a program and shows what it writes.

import { JsonDisplay } from './json-display.js';
import { LineDisplay } from './line-display.js';
import { RecordReader } from './channel.js';
import type { Display } from './display.js';
import { Output } from './output.js';
import type { WatchConfig } from './records.js';
import { endLike, runProgram } from './run-program.js';
import { TerminalDisplay } from './terminal-display.js';
import { WatchedProgram } from './watched-program.js';

export interface WatchCommandOptions {
  /** Default: 250 on a terminal, else 1000. */
  interval: number | undefined;
  minBytes: number;
  buffers: boolean;
  engine: WatchConfig['engine'];
  json: boolean;
  output: string | undefined;
  columns: number | undefined;
  color: boolean | undefined;
}

export async function watchProgram(
  script: string,
  args: readonly string[],
  options: WatchCommandOptions,
): Promise<void> {
  const terminal = process.stderr;
  const onTerminal =
    !options.json &&
    options.output === undefined &&
    terminal.isTTY &&
    terminal.columns > 0 &&
    terminal.rows > 0;
  const intervalMs = options.interval ?? (onTerminal ? 250 : 1000);
  const { columns, minBytes, buffers, engine } = options;
  const output = onTerminal ? undefined : await Output.open(options.output);
  const display: Display =
    output === undefined
      ? terminalDisplay({ intervalMs, columns, color: options.color ?? terminal.hasColors(256) })
      : options.json
        ? new JsonDisplay(output)
        : new LineDisplay(output, intervalMs);

  const program = new WatchedProgram(display);
  const { records, ended } = runProgram(script, args, { intervalMs, minBytes, buffers, engine });
  const reader = new RecordReader();
  records.on('data', (data: Buffer) => {
    for (const record of reader.read(data)) program.take(record);
    // A slow reader slows down the looks, not the program: what is not told stays to be collected.
    if (output?.isFull) records.pause();
  });
  if (output !== undefined) output.onRoom = () => records.resume();
  const timer = setInterval(() => {
    if (!output?.isFull) display.tick(program);
  }, intervalMs);

  const end = await ended;
  clearInterval(timer);
  display.ended(end, program);
  await output?.end();
  endLike(end);
}

function terminalDisplay(options: ConstructorParameters<typeof TerminalDisplay>[1]): TerminalDisplay {
  const display = new TerminalDisplay(process.stderr, options);
  // However this process ends, but by SIGKILL, the terminal is whole.
  process.on('exit', () => display.leave());
  process.on('SIGTSTP', () => {
    display.leave();
    process.kill(process.pid, 'SIGSTOP');
  });
  return display;
}
