// The mappings of this process as the kernel lists them: proc(5), /proc/pid/smaps.

import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

export interface Mapping {
  start: bigint;
  end: bigint;
  bytes: number;
  permissions: string;
  path: string;
  residentBytes: number;
  /** In transparent huge pages. */
  hugeBytes: number;
  /** Two letters each: `dc` is not copied to a forked child, `mg` may be merged by KSM. */
  flags: Set<string>;
}

export function mappings(): Mapping[] {
  const found: Mapping[] = [];
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+\s*(.*)$/.exec(line);
    if (head !== null) {
      const start = BigInt(`0x${head[1]}`);
      const end = BigInt(`0x${head[2]}`);
      const bytes = Number(end - start);
      found.push({
        start,
        end,
        bytes,
        permissions: head[3]!,
        path: head[4]!,
        residentBytes: 0,
        hugeBytes: 0,
        flags: new Set(),
      });
      continue;
    }
    const last = found.at(-1);
    const field = /^(Rss|AnonHugePages|VmFlags):\s*(.*)$/.exec(line);
    if (last === undefined || field === null) continue;
    if (field[1] === 'Rss') last.residentBytes = Number.parseInt(field[2]!) * 1024;
    else if (field[1] === 'AnonHugePages') last.hugeBytes = Number.parseInt(field[2]!) * 1024;
    else last.flags = new Set(field[2]!.trim().split(' '));
  }
  return found;
}

/** What is mapped in `after` and was not in `before`. The kernel joins neighbours that are alike. */
export function newRanges(before: Mapping[], after: Mapping[]): { start: bigint; end: bigint }[] {
  let ranges = after.map(({ start, end }) => ({ start, end }));
  for (const old of before) {
    ranges = ranges.flatMap((each) => {
      if (old.end <= each.start || each.end <= old.start) return [each];
      const left = { start: each.start, end: old.start };
      const right = { start: old.end, end: each.end };
      return [left, right].filter(({ start, end }) => start < end);
    });
  }
  return ranges;
}

/** proc(5), /proc/pid/pagemap: how many pages of the range are present. */
export function presentPages(start: bigint, bytes: number, pageSize: number): number {
  const entries = new BigUint64Array(bytes / pageSize);
  const fd = openSync('/proc/self/pagemap', 'r');
  readSync(fd, entries, 0, entries.byteLength, (start / BigInt(pageSize)) * 8n);
  closeSync(fd);
  return entries.reduce((sum, entry) => sum + Number(entry >> 63n), 0);
}

/** Of all mappings that a forked child does not get: those of this package, and a constant few of Node. */
export function unforked(): { bytes: number; residentBytes: number } {
  const ours = mappings().filter((each) => each.flags.has('dc'));
  return {
    bytes: ours.reduce((sum, each) => sum + each.bytes, 0),
    residentBytes: ours.reduce((sum, each) => sum + each.residentBytes, 0),
  };
}

export function residentBytes(): number {
  return Number.parseInt(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]!) * 1024;
}
