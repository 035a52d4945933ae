// The kinds of memory that Region.allocate gives.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { AllocateOptions } from '../../lib/index.js';

export interface Kind {
  /** Without size and path. */
  options: { backing: 'anonymous' | 'memfd' | 'hugetlb' | 'file'; mapping?: 'private' | 'shared' };
  /** A userfaultfd takes it; the others can be tracked only. */
  registers: boolean;
  /** Reads of a page nobody wrote. */
  fresh: number;
  /** Other mappings may show the same memory. */
  aliases: boolean;
  hugetlb: boolean;
}

const kind = (options: Kind['options'], differences: Partial<Kind> = {}): Kind => ({
  options,
  registers: true,
  fresh: 0,
  aliases: false,
  hugetlb: false,
  ...differences,
});

export const FILE_BYTE = 0x46;

export const KINDS: Record<string, Kind> = {
  anonymous: kind({ backing: 'anonymous' }),
  memfd: kind({ backing: 'memfd' }, { aliases: true }),
  'private memfd': kind({ backing: 'memfd', mapping: 'private' }),
  hugetlb: kind({ backing: 'hugetlb' }, { aliases: true, hugetlb: true }),
  'private hugetlb': kind({ backing: 'hugetlb', mapping: 'private' }, { hugetlb: true }),
  file: kind({ backing: 'file' }, { registers: false, fresh: FILE_BYTE }),
};

/** Calls `use` with what to give Region.allocate for this many pages of the kind. */
export function withOptions<T>(
  name: string,
  pages: number,
  shared: boolean,
  use: (options: AllocateOptions, pageSize: number) => T,
): T {
  const { options, hugetlb } = KINDS[name]!;
  const pageSize = hugetlb ? 2 * 2 ** 20 : 4096;
  const { backing, mapping } = options;
  const bytes = pages * pageSize;
  const how = { ...(mapping === undefined ? {} : { mapping }), shared };
  if (backing !== 'file') return use({ ...how, backing, bytes }, pageSize);
  const directory = mkdtempSync(path.join(tmpdir(), 'userfaultfd-'));
  const file = path.join(directory, 'bytes');
  writeFileSync(file, new Uint8Array(Math.max(bytes, 65_536)).fill(FILE_BYTE));
  const remove = (): void => {
    rmSync(directory, { recursive: true });
  };
  let result: T | undefined;
  try {
    result = use({ backing, path: file, bytes, shared }, pageSize);
    return result;
  } finally {
    if (result instanceof Promise) void result.finally(remove).catch(() => undefined);
    else remove();
  }
}
