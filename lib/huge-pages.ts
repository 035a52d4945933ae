// What this system has of huge pages, read from its settings.

import { readdirSync, readFileSync } from 'node:fs';

export interface HugePages {
  /** Sizes of hugetlb pages, in bytes. */
  sizes: number[];
  /** The setting of transparent huge pages, and their size in bytes. */
  transparent: string | undefined;
  transparentSize: number | undefined;
}

/** @internal Reserved or not; empty on other platforms. */
export function hugePages(): HugePages {
  const base = '/sys/kernel/mm';
  const selected = /\[(\w+)\]/.exec(readSetting(`${base}/transparent_hugepage/enabled`) ?? '')?.[1];
  const size = Number(readSetting(`${base}/transparent_hugepage/hpage_pmd_size`));
  return {
    sizes: listDirectory(`${base}/hugepages`)
      .map((name) => Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]) * 1024)
      .filter((bytes) => Number.isInteger(bytes))
      .sort((a, b) => a - b),
    transparent: selected,
    transparentSize: Number.isInteger(size) && size > 0 ? size : undefined,
  };
}

/** @internal */
export function readSetting(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
