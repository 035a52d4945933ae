// The kernel's own tests of userfaultfd (tools/testing/selftests/mm) as a matrix of rows and kinds of
// memory, each cell a scenario that uses this package only. `npm run conformance` prints it, test 90 runs
// it, docs/kernel.md holds it.

import assert from 'node:assert/strict';
import { withHugePages } from './huge-pages.js';
import { passScenario, runScenario } from './scenario.js';

export const KIND_NAMES = ['anonymous', 'memfd', 'private memfd', 'hugetlb', 'private hugetlb'] as const;
export type KindName = (typeof KIND_NAMES)[number];

export interface Row {
  /** The kernel's name for it. */
  name: string;
  /** What holds when it passes. */
  meaning: string;
  /** A module of test/scenarios and the function it exports. */
  scenario: readonly [file: string, name: string];
  /** Why it is not for a kind. */
  not: Partial<Record<KindName, string>>;
  /** How the process ends once it has said READY. Default: with code 0. */
  ends?: 'SIGBUS';
}

export interface Cell {
  row: Row;
  kind: KindName;
  /** Undefined: it applies. */
  whyNot: string | undefined;
}

const not = (kinds: readonly KindName[], why: string): Row['not'] =>
  Object.fromEntries(kinds.map((kind) => [kind, why]));
const ALL: Row['not'] = {};
const ANONYMOUS_ONLY = not(
  ['memfd', 'private memfd', 'hugetlb', 'private hugetlb'],
  'UFFDIO_MOVE is for private anonymous memory',
);
const SECOND_MAPPING = {
  ...not(['anonymous'], 'minor faults are for memory of a memfd'),
  ...not(
    ['private memfd', 'private hugetlb'],
    'a private mapping has no second one to fill its pages through',
  ),
};
const ALWAYS_HUGE = not(['hugetlb', 'private hugetlb'], 'its pages are never small');

export const ROWS: readonly Row[] = [
  {
    name: 'register-ioctls',
    meaning:
      'Each combination of modes can be registered, or is refused, as the kernel says, and lists its ioctls',
    scenario: ['conformance-fill', 'registerIoctls'],
    not: ALL,
  },
  {
    name: 'zeropage',
    meaning:
      '`zeropage()` fills missing pages, says how far it came and never replaces one; hugetlb refuses it',
    scenario: ['conformance-fill', 'zeropage'],
    not: ALL,
  },
  {
    name: 'move',
    meaning:
      "A handler ends another thread's faults with `move()`: the page is there and gone from its source",
    scenario: ['conformance-move', 'move'],
    not: ANONYMOUS_ONLY,
  },
  {
    name: 'move-pmd',
    meaning: 'A transparent huge page is moved whole and stays huge',
    scenario: ['conformance-move', 'movePmd'],
    not: ANONYMOUS_ONLY,
  },
  {
    name: 'move-pmd-split',
    meaning: 'A transparent huge page is moved in parts: it is split, no byte is lost',
    scenario: ['conformance-move', 'movePmdSplit'],
    not: ANONYMOUS_ONLY,
  },
  {
    name: 'wp-fork',
    meaning: 'A child of fork(2) has none of the write protection, its parent keeps all of it',
    scenario: ['conformance-fork', 'wpFork'],
    not: ALL,
  },
  {
    name: 'wp-fork-with-event',
    meaning:
      'With EVENT_FORK the child has the protection while its userfaultfd is open, which arms and disarms it; its faults end',
    scenario: ['conformance-fork', 'wpForkWithEvent'],
    not: ALL,
  },
  {
    name: 'wp-fork-pin',
    meaning: 'The same as wp-fork for pages that are pinned, which fork(2) copies at once',
    scenario: ['conformance-fork', 'wpForkPin'],
    not: ALL,
  },
  {
    name: 'wp-fork-pin-with-event',
    meaning: 'The same as wp-fork-with-event for pinned pages, also when the child unshares them',
    scenario: ['conformance-fork', 'wpForkPinWithEvent'],
    not: ALL,
  },
  {
    name: 'wp-unpopulated',
    meaning: 'Pages that do not exist are armed, stay so when read, and their first write is a fault',
    scenario: ['conformance-fill', 'wpUnpopulated'],
    not: ALL,
  },
  {
    name: 'minor',
    meaning:
      'Pages filled through a second mapping are minor faults; a handler changes and maps them, the loop maps them',
    scenario: ['conformance-minor', 'minor'],
    not: SECOND_MAPPING,
  },
  {
    name: 'minor-wp',
    meaning: 'A minor fault is ended with the page armed in the same step; its first write is a fault',
    scenario: ['conformance-minor', 'minorWp'],
    not: SECOND_MAPPING,
  },
  {
    name: 'minor-collapse',
    meaning: 'Pages mapped one by one by minor faults are joined to huge pages, no byte is lost',
    scenario: ['conformance-minor', 'minorCollapse'],
    not: { ...SECOND_MAPPING, hugetlb: 'its pages are never small' },
  },
  {
    name: 'sigbus',
    meaning: 'With SIGBUS no fault waits: filled pages read, a system call gets EFAULT, a thread SIGBUS',
    scenario: ['conformance-sigbus', 'sigbus'],
    not: ALL,
    ends: 'SIGBUS',
  },
  {
    name: 'sigbus-wp',
    meaning: 'The same for writes to armed pages: reads pass, and so do writes after `unprotect()`',
    scenario: ['conformance-sigbus', 'sigbusWp'],
    not: ALL,
    ends: 'SIGBUS',
  },
  {
    name: 'events',
    meaning: 'fork, mremap and discards are told in their order, and faults are served before and after each',
    scenario: ['conformance-events', 'events'],
    not: ALL,
  },
  {
    name: 'events-wp',
    meaning:
      'The same for armed pages: protection stays over fork and mremap, and goes or stays with a discard',
    scenario: ['conformance-events', 'eventsWp'],
    not: ALL,
  },
  {
    name: 'poison',
    meaning: 'Poisoned pages give system calls an error and threads SIGBUS, those beside them none',
    scenario: ['conformance-sigbus', 'poison'],
    not: ALL,
    ends: 'SIGBUS',
  },
  {
    name: 'pagemap: sanity',
    meaning: '`peek()` changes nothing, `collect()` arms again, a discarded page counts as written',
    scenario: ['conformance-pagemap', 'sanity'],
    not: ALL,
  },
  {
    name: 'pagemap: per page',
    meaning: 'No page, each page alone, every other page and all pages are reported, nothing else',
    scenario: ['conformance-pagemap', 'perPage'],
    not: ALWAYS_HUGE,
  },
  {
    name: 'pagemap: large page',
    meaning: 'The same on transparent huge pages: a written byte dirties one page, not the huge one',
    scenario: ['conformance-pagemap', 'largePage'],
    not: {
      ...ALWAYS_HUGE,
      ...not(['private memfd'], 'what was written in a private mapping of a file is in small pages'),
    },
  },
  {
    name: 'pagemap: hugetlb',
    meaning: 'The same on hugetlb pages, whole ones',
    scenario: ['conformance-pagemap', 'hugetlb'],
    not: not(['anonymous', 'memfd', 'private memfd'], 'its pages are small'),
  },
  {
    name: 'pagemap: memfd',
    meaning: 'Two mappings of the same memory: a tracker of either sees what is written through both',
    scenario: ['conformance-pagemap', 'memfd'],
    not: not(['anonymous', 'private memfd', 'private hugetlb'], 'there is no second mapping of it'),
  },
  {
    name: 'pagemap: transact',
    meaning: 'A thread writes while pages are collected: no write is missed, and none is told after the end',
    scenario: ['conformance-pagemap', 'transact'],
    not: ALL,
  },
  {
    name: 'pagemap: overlapping and out-of-range arguments',
    meaning:
      'Ranges outside are refused by name and change nothing; overlapping trackers each see everything',
    scenario: ['conformance-pagemap', 'ranges'],
    not: ALL,
  },
  {
    name: 'pagemap: unmapped',
    meaning: 'Closed memory is an error; memory that was mapped anew or elsewhere is never told as clean',
    scenario: ['conformance-pagemap', 'unmapped'],
    not: ALL,
  },
  {
    name: 'pagemap: invalid flags',
    meaning: 'Options that do not exist are refused by name and change nothing',
    scenario: ['conformance-pagemap', 'invalidFlags'],
    not: ALL,
  },
];

export function cells(): Cell[] {
  return ROWS.flatMap((row) => KIND_NAMES.map((kind) => ({ row, kind, whyNot: row.not[kind] })));
}

/** A fork of private huge pages takes more: the child's are promised to nobody. */
const HUGE_PAGES = 48;

/** Throws when the cell does not pass. */
export async function runCell({ row, kind }: Cell): Promise<void> {
  const [file, name] = row.scenario;
  const run = async (): Promise<void> => {
    if (row.ends === undefined) {
      await passScenario(file, name, { args: [kind], timeoutMs: 10_000 });
      return;
    }
    const { signal, code, stdout, stderr } = await runScenario(file, name, { args: [kind] });
    const what = `${row.name} on ${kind} ended with code ${code}, signal ${signal}\n${stdout}${stderr}`;
    assert.match(stdout, /READY/, what);
    assert.equal(signal, row.ends, what);
  };
  await (kind.includes('hugetlb') ? withHugePages(HUGE_PAGES, run) : run());
}

/** As docs/kernel.md holds it. */
export function matrixInMarkdown(): string {
  const lines = ROWS.map(({ name, meaning, not: why }) => {
    const marks = KIND_NAMES.map((kind) => (why[kind] === undefined ? 'yes' : footnote(why[kind])));
    return `| ${name} | ${marks.join(' | ')} | ${meaning} |`;
  });
  const head = `| row | ${KIND_NAMES.join(' | ')} | what holds |`;
  const notes = reasons().map((reason, i) => `${i + 1}. ${reason}`);
  return [head, `|${' --- |'.repeat(KIND_NAMES.length + 2)}`, ...lines, '', ...notes].join('\n');
}

/** Each reason why a row is not for a kind, once. */
export function reasons(): string[] {
  return [...new Set(ROWS.flatMap((row) => KIND_NAMES.flatMap((kind) => row.not[kind] ?? [])))];
}

export function footnote(reason: string): string {
  return `(${reasons().indexOf(reason) + 1})`;
}
