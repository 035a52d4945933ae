// npx userfaultfd bench: the measurements of bench/ on the user's own machine.

import { InvalidArgumentError, type Command } from 'commander';

interface Options {
  json?: string;
  scale: number;
  rounds?: number;
  list?: boolean;
}

export function addBenchCommand(program: Command): void {
  program
    .command('bench [cases...]')
    .description('measure this package beside the bare system calls in C (needs cc); all cases by default')
    .option('--json <file>', 'write the results as JSON')
    .option('--scale <factor>', 'multiply the sizes of memory', positive, 1)
    .option('--rounds <n>', 'measure each row this often', positive)
    .option('--list', 'print the names of the cases and stop')
    .action(async (cases: string[], options: Options) => {
      const { caseNames, runBench } = await import('../bench/run.js');
      if (options.list) {
        console.log(caseNames().join('\n'));
        return;
      }
      const { json, scale, rounds } = options;
      process.exitCode = (await runBench(cases, { json, scale, rounds })) ? 0 : 1;
    });
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError('It must be a number above 0.');
  return value;
}
