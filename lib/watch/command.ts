// The words of `userfaultfd watch`.

import { Command, InvalidArgumentError, Option } from 'commander';
import { watchProgram, type WatchCommandOptions } from './watch.js';

const LONGEST_INTERVAL_MS = 2 ** 31 - 1;
const DEFAULT_MIN_BYTES = 1 << 20;

export function watchCommand(): Command {
  return new Command('watch')
    .description('runs a Node.js program and shows which pages of its Wasm memories and buffers it writes')
    .argument('<script>', 'the program, ES module or CommonJS')
    .argument('[args...]', 'what the program is given; `--` before them is left out')
    .passThroughOptions()
    .addOption(
      new Option('--interval <ms>', 'between two looks (default: 250 on a terminal, else 1000)').argParser(
        integerFrom(1, LONGEST_INTERVAL_MS),
      ),
    )
    .addOption(
      new Option('--min-bytes <bytes>', 'buffers from this size on')
        .argParser(integerFrom(1, Number.MAX_SAFE_INTEGER))
        .default(DEFAULT_MIN_BYTES),
    )
    .option('--no-buffers', 'Wasm memories only')
    .addOption(
      new Option('--engine <engine>', 'how writes are noticed; wp-sync: of Wasm memories only, and by whom')
        .choices(['auto', 'wp-async', 'wp-sync', 'compare'])
        .default('auto'),
    )
    .option('--json', 'one JSON record a line')
    .option('--output <file>', 'lines or records go there (default: standard error)')
    .addOption(
      new Option('--columns <columns>', 'width of the picture (default: the terminal’s)').argParser(
        integerFrom(10, 10_000),
      ),
    )
    .option('--color', 'colours in the picture (default: what the terminal has; NO_COLOR)')
    .option('--no-color', 'none')
    .action(async (script: string, args: string[], options: Partial<WatchCommandOptions>) => {
      const given = args[0] === '--' ? args.slice(1) : args;
      await watchProgram(script, given, { ...DEFAULTS, ...options });
    });
}

const DEFAULTS: WatchCommandOptions = {
  interval: undefined,
  minBytes: DEFAULT_MIN_BYTES,
  buffers: true,
  engine: 'auto',
  json: false,
  output: undefined,
  columns: undefined,
  color: undefined,
};

function integerFrom(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It must be an integer from ${min} to ${max}.`);
  };
}
