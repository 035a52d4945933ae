// What a parser in WebAssembly may write, as a test: node --test examples/node-test.test.mjs

import assert from 'node:assert/strict';
import { test } from 'node:test';
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

test('get() writes nothing', () => {
  const { memory, put, get } = makeStore();
  put(3, 'Barbara');
  assertWrites(memory, { minPages: 0, maxPages: 0 }, () => assert.equal(get(3), 'Barbara'));
});

test('an import writes as many pages as it has records', async () => {
  const { memory, importAll } = makeStore();
  const names = Array.from({ length: 100 }, (_, i) => `name ${i}`);
  const { pages, bytes } = await measureWrites(() => importAll(names), memory);
  // 100 records of a page each, and the page of the index.
  assert.equal(pages.pageCount, 101);
  assert.ok(bytes[0].byteLength < 2000);
});
