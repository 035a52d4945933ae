// The process of one case: rows go to the parent as they are done.

import { Bench, type BenchCase } from './bench.js';
import type { RowResult, RunOptions } from './results.js';

async function main(): Promise<void> {
  // A parent that is gone wants no figures.
  const orphaned = (): never => process.exit(1);
  process.on('disconnect', orphaned);
  const [file, binaries, options] = process.argv.slice(2) as [string, string, string];
  const { default: benchCase } = (await import(file)) as { default: { default: BenchCase } };
  const bench = new Bench(JSON.parse(options) as RunOptions, binaries, (row: RowResult) =>
    process.send!(row),
  );
  await benchCase.default.run(bench);
  await bench.close();
  process.off('disconnect', orphaned);
  process.disconnect();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
