// What require('userfaultfd') costs a process.

import { spawnSync } from 'node:child_process';
import path from 'node:path';
import type { BenchCase } from '../harness/bench.js';
import { MIB } from '../harness/pattern.js';

const PACKAGE = path.join(__dirname, '..', '..', '..');

/** Runs `work` in a fresh process; how long it took in nanoseconds, and what is resident afterwards in bytes. */
function measure(work: string): { time: number; resident: number } {
  const script = `
    const start = process.hrtime.bigint();
    ${work};
    const time = Number(process.hrtime.bigint() - start);
    console.log(JSON.stringify({ time, resident: process.memoryUsage().rss }));`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', script], {
    encoding: 'utf8',
    timeout: 20_000,
    killSignal: 'SIGKILL',
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as { time: number; resident: number };
}

const benchCase: BenchCase = {
  title: "require('userfaultfd') in a fresh process",
  deadlineSeconds: 300,
  needsBytes: 64 * MIB,

  async run(bench) {
    const bare = '0';
    const required = `require(${JSON.stringify(PACKAGE)})`;
    const used = `${required}.Region.allocate({ bytes: 4096 })`;
    await bench.row({
      name: 'Time',
      rounds: 20,
      sides: {
        "require('userfaultfd')": () => measure(required).time,
        'and the first use, which loads the addon': () => measure(used).time,
      },
      targets: [{ side: "require('userfaultfd')", atMost: 10e6 }],
    });
    await bench.row({
      name: 'Resident memory',
      unit: 'bytes',
      rounds: 20,
      sides: {
        'bare Node.js': () => measure(bare).resident,
        required: () => measure(required).resident,
        used: () => measure(used).resident,
      },
      derived: {
        'above bare Node.js': (round) => round['required']! - round['bare Node.js']!,
        'above bare Node.js, used': (round) => round['used']! - round['bare Node.js']!,
      },
      targets: [{ side: 'above bare Node.js', atMost: 4 * MIB }],
    });
  },
};

export default benchCase;
