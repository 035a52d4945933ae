// Which pages a round writes.

export const PAGE = 4096;
export const GIB = 2 ** 30;
export const MIB = 2 ** 20;

/** A number of pages in runs of `run`, evenly spread over the memory. */
export interface Pattern {
  count: number;
  run: number;
}

/** About `percent` of the pages of a memory. */
export function patternOf(bytes: number, percent: number, run: number): Pattern {
  const pages = bytes / PAGE;
  if (percent === 100) return { count: pages, run: pages };
  return { count: Math.round((pages * percent) / 100 / run) * run, run };
}

let value = 1;

/** Writes a byte of each page of the pattern, another value each time. The same as WritePattern of bench/native. */
export function writePattern(bytes: Uint8Array, { count, run }: Pattern): void {
  value = (value % 255) + 1;
  const runs = count / run;
  const pages = bytes.length / PAGE;
  for (let i = 0; i < runs; i++) {
    const first = Math.floor((pages * i) / runs);
    for (let page = first; page < first + run; page++) bytes[page * PAGE] = value;
  }
}

/** Makes every page exist, none of them of zeros. */
export function populate(bytes: Uint8Array): void {
  bytes.fill(1);
}
