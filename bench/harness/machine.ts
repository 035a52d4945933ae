// The machine that figures belong to.

import { readFileSync } from 'node:fs';
import os from 'node:os';

export interface Machine {
  date: string;
  node: string;
  kernel: string;
  architecture: string;
  processor: string;
  processors: number;
  /** In bytes. */
  memory: number;
  /** In bytes, at the start of the run. */
  memoryAvailable: number;
  transparentHugePages: string;
  /** vm.nr_hugepages */
  reservedHugePages: string;
  /** Of the last minute when the run began: what else the machine did. */
  load: number;
}

function firstLine(file: string): string {
  try {
    return readFileSync(file, 'utf8').split('\n', 1)[0]!;
  } catch {
    return 'not known';
  }
}

export function thisMachine(): Machine {
  return {
    date: new Date().toISOString(),
    node: process.version,
    kernel: os.release(),
    architecture: process.arch,
    processor: os.cpus()[0]?.model.trim() ?? 'not known',
    processors: os.availableParallelism(),
    memory: os.totalmem(),
    memoryAvailable: memoryAvailable(),
    transparentHugePages: firstLine('/sys/kernel/mm/transparent_hugepage/enabled'),
    reservedHugePages: firstLine('/proc/sys/vm/nr_hugepages'),
    load: os.loadavg()[0]!,
  };
}

/** What can be allocated without swapping, in bytes. */
export function memoryAvailable(): number {
  const line = /^MemAvailable:\s*(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'));
  return line === null ? os.freemem() : Number(line[1]) * 1024;
}
