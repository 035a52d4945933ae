// The helpers for other people's tests: userfaultfd/testing.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { Region } from '../lib/index.js';
import { assertUntouched, assertWrites, measureWrites } from '../lib/testing.js';
import { PAGE, pagesOf } from './scenarios/dirty-support.js';

const root = path.join(__dirname, '..', '..');

function messageOf(use: () => unknown): string {
  let message = '';
  assert.throws(use, (error: Error & { code?: string }) => {
    assert.equal(error.name, 'AssertionError');
    assert.equal(error.code, 'ERR_ASSERTION');
    ({ message } = error);
    return true;
  });
  return message;
}

test('it measures what a function writes: its result, the pages, the bytes, the engine', () => {
  const region = Region.allocate({ bytes: 8 * PAGE });
  region.bytes.fill(7);
  const { result, pages, bytes, engine } = measureWrites(() => {
    region.bytes[PAGE] = 7;
    region.bytes.set([1, 7, 3], 3 * PAGE);
    return 'done';
  }, region);
  assert.equal(result, 'done');
  assert.equal(engine, 'wp-async');
  assert.deepEqual(pagesOf(pages), [1, 3]);
  assert.deepEqual(
    [...bytes[0]!],
    [
      { offset: 3 * PAGE, length: 1 },
      { offset: 3 * PAGE + 2, length: 1 },
    ],
  );
});

test('it measures asynchronous functions, several memories, and with the engine asked for', async () => {
  const region = Region.allocate({ bytes: 2 * PAGE });
  const memory = new WebAssembly.Memory({ initial: 1 });
  const pending = measureWrites(
    async () => {
      region.bytes[0] = 1;
      await Promise.resolve();
      new Uint8Array(memory.buffer)[5 * PAGE] = 1;
      return 5;
    },
    [region, memory],
    { engine: 'compare' },
  );
  const { result, pages, bytes, engine } = await pending;
  assert.deepEqual([result, engine], [5, 'compare']);
  assert.deepEqual([...pages.of(1)], [{ offset: 5 * PAGE, length: PAGE }]);
  assert.deepEqual([...bytes[1]!], [{ offset: 5 * PAGE, length: 1 }]);
});

test('it lets what the function throws through, and tracks nothing after it', async () => {
  const region = Region.allocate({ bytes: 2 * PAGE });
  const boom = new Error('boom');
  const raise = (): never => {
    throw boom;
  };
  assert.throws(() => measureWrites(raise, region), boom);
  await assert.rejects(
    measureWrites(() => Promise.reject(boom), region),
    boom,
  );
  assert.throws(() => assertUntouched(region, {}, raise), boom);
  // A Userfaultfd could not register memory that is tracked; closing tells that nobody does.
  region.close();
});

test('it passes when the range was left alone, whatever happened beside it', () => {
  const region = Region.allocate({ bytes: 8 * PAGE });
  const guarded = { offset: 2 * PAGE + 100, length: 3 * PAGE };
  const { pages } = assertUntouched(region, guarded, () => {
    region.bytes.fill(1, 0, 2 * PAGE + 100);
    region.bytes.fill(1, 5 * PAGE + 100);
  });
  assert.equal(pages.pageCount, 6);
  assert.equal(assertUntouched(region, [{ length: 10 }, guarded], () => 4).result, 4);
});

test('it fails when the range was written, and shows pages and bytes before and after', () => {
  const region = Region.allocate({ bytes: 64 * PAGE });
  region.bytes.set(Buffer.from('hello, world'), 17 * PAGE + 32);
  const message = messageOf(() =>
    assertUntouched(region, { offset: 16 * PAGE, length: 4 * PAGE }, () => {
      region.bytes.set(Buffer.from('HELLO'), 17 * PAGE + 32);
    }),
  );
  const at = (17 * PAGE + 32).toString(16);
  assert.equal(
    message,
    [
      'Expected the range to be left alone. 1 page was written, 5 bytes differ:',
      `  page 17, offset ${17 * PAGE} (0x${(17 * PAGE).toString(16)}): 5 bytes differ`,
      `    0x${at}  before  68 65 6c 6c 6f 2c 20 77 6f 72 6c 64 00 00 00 00  |hello, world....|`,
      `    ${' '.repeat(at.length + 2)}  after   48 45 4c 4c 4f 2c 20 77 6f 72 6c 64 00 00 00 00  |HELLO, world....|`,
    ].join('\n'),
  );
});

test('it fails on one byte, on either edge, and on a write of the value that was there', () => {
  const region = Region.allocate({ bytes: 8 * PAGE });
  const range = { offset: PAGE + 10, length: 2 * PAGE };
  for (const at of [range.offset, range.offset + range.length - 1]) {
    assert.match(
      messageOf(() => assertUntouched(region, range, () => region.bytes[at]!++)),
      /1 byte differs/,
    );
  }
  const message = messageOf(() => assertUntouched(region, range, () => (region.bytes[2 * PAGE] = 0)));
  assert.match(message, /page 2, offset 8192 \(0x2000\): written with the bytes it had/);
  assert.throws(() => assertUntouched(region, { offset: 8 * PAGE }, () => undefined), {
    code: 'ERR_OUT_OF_RANGE',
  });
});

test('it says no more of many pages than people read', () => {
  const region = Region.allocate({ bytes: 512 * PAGE });
  const message = messageOf(() => assertUntouched(region, {}, () => region.bytes.fill(0x41)));
  assert.match(message, /512 pages were written, 2097152 bytes differ/);
  assert.match(message, /… 508 more pages$/);
  assert.ok(message.split('\n').length < 30, message);
});

test('it shows pages of plain buffers, which begin inside a page', () => {
  const backing = Region.allocate({ bytes: 8 * PAGE });
  const view = new Uint8Array(backing.buffer, 1000, 3 * PAGE);
  const message = messageOf(() => assertUntouched(view, {}, () => (view[PAGE] = 255)));
  assert.match(message, /1 page was written, 1 byte differs/);
  assert.match(message, new RegExp(`page 1, offset ${PAGE - 1000} `));
  assert.match(message, /0x1000 {2}before {2}00 .*\n +after {3}ff 00/);
});

test('it fails on asynchronous functions as well, and on memory that grew', async () => {
  const memory = new WebAssembly.Memory({ initial: 1 });
  await assert.rejects(
    assertWrites(memory, { within: { length: PAGE } }, async () => {
      await Promise.resolve();
      memory.grow(1);
    }),
    { name: 'AssertionError', message: /16 pages were written[^]*0x10000 {2}before {2}-- -- / },
  );
});

test('it counts pages: at least, at most, and where', () => {
  const region = Region.allocate({ bytes: 16 * PAGE });
  const { bytes } = region;
  assert.match(
    messageOf(() => assertWrites(region, {}, () => undefined)),
    /at least 1 page\(s\) to be written. Nothing was written/,
  );
  assertWrites(region, { minPages: 2, maxPages: 2 }, () => bytes.fill(1, PAGE, 3 * PAGE));
  assert.match(
    messageOf(() => assertWrites(region, { maxPages: 1 }, () => bytes.fill(2, PAGE, 3 * PAGE))),
    /at most 1 page\(s\) to be written. 2 pages were written/,
  );
  const within = [
    { offset: 0, length: PAGE },
    { offset: 4 * PAGE, length: 10 },
  ];
  assertWrites(region, { within }, () => (bytes[4 * PAGE + 9] = 5));
  const message = messageOf(() => assertWrites(region, { within }, () => (bytes[4 * PAGE + 10] = 5)));
  assert.match(message, /outside the range to be left alone/);
  assert.match(message, /page 4, /);
  assert.throws(() => assertWrites(region, { minPages: 3, maxPages: 2 }, () => 0), {
    code: 'ERR_OUT_OF_RANGE',
  });
  // @ts-expect-error the type forbids it too
  assert.throws(() => assertWrites(region, { atMost: 2 }, () => 0), { code: 'ERR_INVALID_ARG_VALUE' });
});

test('it asserts of one memory; an array would hide the others', () => {
  const both = [Region.allocate({ bytes: PAGE }), Region.allocate({ bytes: PAGE })];
  // @ts-expect-error the type forbids it too
  assert.throws(() => assertUntouched(both, {}, () => 0), { code: 'ERR_INVALID_ARG_TYPE' });
  // @ts-expect-error the type forbids it too
  assert.throws(() => assertWrites(both, {}, () => 0), { code: 'ERR_INVALID_ARG_TYPE' });
});

test('its example for node:test passes, by the name it is published under', () => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--test', '--test-reporter=spec', path.join('examples', 'node-test.test.mjs')],
    { cwd: root, encoding: 'utf8', timeout: 30_000, env: { ...process.env, NODE_TEST_CONTEXT: undefined } },
  );
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /pass 4/);
});

test('its example for Vitest passes', () => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      path.join('node_modules', 'vitest', 'vitest.mjs'),
      'run',
      '--dir',
      'examples',
      '--reporter=verbose',
      'vitest.test.mjs',
    ],
    { cwd: root, encoding: 'utf8', timeout: 60_000, env: { ...process.env, NO_COLOR: '1' } },
  );
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /Tests {2}4 passed \(4\)/);
});
