// Reserves huge pages for a test and puts the setting back, also when the test fails or its process is
// killed, while other test files do the same.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export const HUGE_PAGE = 2 * 2 ** 20;
const DIRECTORY = '/sys/kernel/mm/hugepages/hugepages-2048kB';

/**
 * A process of its own takes the pages and gives them back when its input ends. The setting is changed
 * under a lock of its own, by a difference, so that several may hold pages at a time. Pages that were
 * given back while a mapping still had them count as surplus until it ends; taken for a part of the
 * setting they would stay in it.
 */
const KEEPER = `
trap '' INT TERM HUP
adjust() {
  flock "$1/nr_hugepages" sh -c '
    had=$(($(cat "$1/nr_hugepages") - $(cat "$1/surplus_hugepages")))
    echo $((had + $2)) >"$1/nr_hugepages"' sh "$1" "$2"
}
exec 9>"$4" || exit 1
flock "$3" 9 || exit 1
adjust "$1" "$2" || exit 1
echo ready
cat >/dev/null
adjust "$1" "-$2"`;

export interface HugePageCounts {
  total: number;
  free: number;
  /** Promised to mappings that have not touched them. */
  reserved: number;
}

export function hugePageCounts(): HugePageCounts {
  const read = (name: string): number => Number(readFileSync(path.join(DIRECTORY, name), 'utf8'));
  return { total: read('nr_hugepages'), free: read('free_hugepages'), reserved: read('resv_hugepages') };
}

/**
 * Runs `use` with `pages` more huge pages of 2 MiB than there are. `alone`: nobody else of the tests has
 * or takes any meanwhile.
 */
export async function withHugePages<T>(
  pages: number,
  use: () => T | Promise<T>,
  { alone = false }: { alone?: boolean } = {},
): Promise<T> {
  const lock = path.join(tmpdir(), 'userfaultfd-huge-pages.lock');
  const keeper = spawn('sh', ['-c', KEEPER, 'sh', DIRECTORY, String(pages), alone ? '-x' : '-s', lock], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(keeper, 'close');
  try {
    const [first] = (await Promise.race([once(keeper.stdout, 'data'), ended])) as [unknown];
    assert.equal(String(first).trim(), 'ready', 'huge pages can be reserved (needs root and flock)');
    assert.ok(hugePageCounts().total >= pages, 'the kernel found memory for the huge pages');
    return await use();
  } finally {
    keeper.stdin.end();
    await ended;
  }
}
