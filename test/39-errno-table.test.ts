// Every errno that each ioctl can answer: it is named, what was done half way is told or taken back, and
// nobody stays asleep. The rows are in scenarios/errno-table.ts, and for readers in docs/errors.md.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { TABLE, title } from './scenarios/errno-table.js';
import { passScenario } from './support/scenario.js';

for (const row of TABLE) {
  test(`${title(row)} (B17)`, async () => {
    await passScenario('errno-table', 'run', { timeoutMs: 20_000, ...row.options, args: [title(row)] });
  });
}

/** `| call | errno | …` of the section about ioctls. */
function documented(): string[] {
  const text = readFileSync(path.join(__dirname, '..', '..', 'docs', 'errors.md'), 'utf8');
  const section = text.slice(text.indexOf('## What each ioctl answers'));
  return [...section.matchAll(/^\| `([A-Z_]+)` \| ((?:`[A-Z]+`(?:, )?)+) \|/gm)].flatMap(([, call, errnos]) =>
    [...errnos!.matchAll(/`([A-Z]+)`/g)].map(([, errno]) => `${call} ${errno}`),
  );
}

test('docs/errors.md has every row, and every row there has a test or says why not (B17)', () => {
  const tested = TABLE.map(
    ({ call, errno }) => `${call === 'PAGEMAP_SCAN' ? call : `UFFDIO_${call}`} ${errno}`,
  );
  const rows = documented();
  assert.deepEqual(
    [...new Set(tested)].filter((each) => !rows.includes(each)),
    [],
    'not documented',
  );
  assert.deepEqual(
    rows.filter((each) => !tested.includes(each) && !each.endsWith(' EINTR')),
    [],
    'not tested',
  );
  assert.equal(new Set(rows).size, rows.length, 'once each');
});
