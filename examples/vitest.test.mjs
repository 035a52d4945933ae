// The same with Vitest: npx vitest run --dir examples vitest.test.mjs

import { expect, test } from 'vitest';
import { assertUntouched, assertWrites, measureWrites } from 'userfaultfd/testing';
import { makeStore } from './store.mjs';

test('put() leaves the other records alone', () => {
  const { memory, put, recordRange } = makeStore();
  put(0, 'Ada');
  assertUntouched(memory, recordRange(0), () => put(1, 'Grace'));
});

test('put() writes its record and the index, two pages at most', () => {
  const { memory, put, indexRange, recordRange } = makeStore();
  assertWrites(memory, { within: [indexRange, recordRange(7)], maxPages: 2 }, () => put(7, 'Edsger'));
});

test('a put() that goes astray is seen, with the bytes', () => {
  const { memory, put, recordRange } = makeStore();
  expect(() => assertUntouched(memory, recordRange(2), () => put(2, 'Alan'))).toThrow(/1 page was written/);
});

test('an import writes as many pages as it has records', async () => {
  const { memory, importAll } = makeStore();
  const names = Array.from({ length: 100 }, (_, i) => `name ${i}`);
  const { pages } = await measureWrites(() => importAll(names), memory);
  expect(pages.pageCount).toBe(101);
});
