// npx userfaultfd watch: runs a program and shows what it writes.

import { isatty, type WriteStream } from 'node:tty';
import { RecordReader } from './channel.js';
import type { Display } from './display.js';
import { JsonDisplay } from './json-display.js';
import { LineDisplay } from './line-display.js';
import { Output } from './output.js';
import type { WatchConfig } from './records.js';
import { endLike, runProgram } from './run-program.js';
import { TerminalDisplay, type TerminalOptions } from './terminal-display.js';
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
  const terminal = options.json || options.output !== undefined ? undefined : terminalOf();
  const intervalMs = options.interval ?? (terminal === undefined ? 1000 : 250);
  const { columns, minBytes, engine } = options;
  // Buffers share pages with other data of the program, which must not wait for a loop.
  const buffers = options.buffers && engine !== 'wp-sync';
  const output = terminal === undefined ? await Output.open(options.output) : undefined;
  const display: Display =
    output === undefined
      ? terminalDisplay(terminal!, { intervalMs, columns, color: options.color ?? terminal!.hasColors(256) })
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
    if (!output?.isFull && !program.complete) display.tick(program);
  }, intervalMs);

  const end = await ended;
  clearInterval(timer);
  display.ended(end, program);
  await output?.end();
  endLike(end);
}

/** Standard error, when it is a terminal that knows its size. */
function terminalOf(): WriteStream | undefined {
  if (!isatty(2)) return undefined;
  const { stderr } = process;
  return stderr.columns > 0 && stderr.rows > 0 ? stderr : undefined;
}

function terminalDisplay(terminal: WriteStream, options: TerminalOptions): TerminalDisplay {
  const display = new TerminalDisplay(terminal, options);
  // However this process ends, but by SIGKILL, the terminal is whole.
  process.on('exit', () => display.leave());
  process.on('SIGTSTP', () => {
    display.leave();
    process.kill(process.pid, 'SIGSTOP');
  });
  return display;
}
