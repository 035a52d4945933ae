#!/usr/bin/env node
// npx userfaultfd: words of the command line in, exit codes out.

import { Command } from 'commander';
import { addBenchCommand } from './bench-command.js';
import { capabilities } from './capabilities.js';
import { doctorText, isUsable } from './doctor.js';
import { addSnapshotCommands } from './snapshot-command.js';
import { watchCommand } from './watch/command.js';

async function main(): Promise<void> {
  const program = new Command('userfaultfd')
    .description('Linux userfaultfd for Node.js: dirty pages, snapshots and faults of live memory')
    .showHelpAfterError()
    // Options after the script of `watch` are the script's.
    .enablePositionalOptions();

  program
    .command('doctor')
    .description(
      'what this machine lets this user do, and how to get the rest; exit code 1 when nothing works',
    )
    .option('--json', 'print the capabilities as JSON')
    .action((options: { json?: boolean }) => {
      const found = capabilities();
      console.log(options.json ? JSON.stringify(found, undefined, 2) : doctorText(found));
      process.exitCode = isUsable(found) ? 0 : 1;
    });

  program
    .command('demo')
    .description('a real Python in WebAssembly: the pages each statement dirties, a snapshot, damage, undo')
    .option('--json', 'print one JSON report and nothing else')
    .action(async (options: { json?: boolean }) => {
      // Only now: it opens standard output, which under `watch` is the program's.
      const { runDemo } = await import('./demo/demo.js');
      process.exitCode = (await runDemo({ json: options.json ?? false })) ? 0 : 1;
    });

  program.addCommand(watchCommand().copyInheritedSettings(program));
  addSnapshotCommands(program);
  addBenchCommand(program);

  await program.parseAsync();
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? `userfaultfd: ${error.message}` : error);
  process.exitCode ||= 1;
});
