// The kernel's own tests of userfaultfd through this package, on every kind of memory they apply to.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { cells, matrixInMarkdown, runCell } from './support/conformance.js';

describe("the kernel's own list", { concurrency: 2 }, () => {
  for (const cell of cells()) {
    if (cell.whyNot !== undefined) continue;
    test(`it passes ${cell.row.name} on ${cell.kind} memory`, () => runCell(cell));
  }
});

test('it is the matrix that docs/kernel.md holds', () => {
  const file = path.join(__dirname, '..', '..', 'docs', 'kernel.md');
  // However its columns are aligned.
  const plain = (text: string): string => text.replace(/-{3,}/g, '---').replace(/[ \t]+/g, ' ');
  const matrix = matrixInMarkdown();
  const held = plain(readFileSync(file, 'utf8')).includes(plain(matrix));
  assert.ok(held, `docs/kernel.md must hold this:\n\n${matrix}`);
});
