// The bare ioctl on memory of this process: bench/native/scan_addon.c.

import type { Bench } from './bench.js';

export interface Scanned {
  /** Nanoseconds, of the ioctl and what goes with it. */
  time: number;
  pages: number;
}

export interface ScanAddon {
  /** Collects what was written. */
  scan(view: Uint8Array): Scanned;
  /** And writes the ranges down in new memory, as for one who keeps them. */
  handOver(view: Uint8Array): Scanned;
}

export function scanAddon(bench: Bench): ScanAddon {
  type Native = Record<keyof ScanAddon, (view: Uint8Array, numbers: Float64Array) => void>;
  const native = bench.addon('scan_addon') as Native;
  const numbers = new Float64Array(2);
  const call = (how: keyof ScanAddon, view: Uint8Array): Scanned => {
    native[how](view, numbers);
    return { time: numbers[0]!, pages: numbers[1]! };
  };
  return { scan: (view) => call('scan', view), handOver: (view) => call('handOver', view) };
}
