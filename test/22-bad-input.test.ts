// Bad input gets a clear error with a stable code, and loses nothing.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { DirtyPages, DirtyTracker, Region, Snapshot, UffdError, Userfaultfd } from '../lib/index.js';
import {
  ARMED,
  CASES,
  CONSTRUCTORS,
  makeFixture,
  NULLS,
  type Case,
  type Fixture,
} from './scenarios/bad-input-cases.js';
import { resizableBuffer } from './scenarios/dirty-support.js';
import { passScenario } from './support/scenario.js';

const CLASS_OF: Record<string, string> = {
  ERR_INVALID_ARG_TYPE: 'TypeError',
  ERR_INVALID_ARG_VALUE: 'TypeError',
  ERR_OUT_OF_RANGE: 'RangeError',
};

interface Coded extends Error {
  code: string;
}

/** What is wrong with the error of this case, if anything. */
function faultOf({ call, code, message }: Case, f: Fixture): string | undefined {
  let error: Coded;
  try {
    return `no error, but ${inspect(call(f))}`;
  } catch (thrown) {
    error = thrown as Coded;
  }
  if (error.code !== code) return `code ${error.code}, not ${code}: ${error.name}: ${error.message}`;
  if (error.name !== (CLASS_OF[code] ?? 'UffdError')) return `${code} is a ${error.name}`;
  if (CLASS_OF[code] === undefined && !(error instanceof UffdError)) return `${code} is no UffdError`;
  if (message !== undefined && !message.test(error.message)) return `message: ${error.message}`;
  if (CLASS_OF[code] !== undefined && !error.stack!.includes(`[${code}]`))
    return `its stack does not show ${code}`;
  return undefined;
}

/** What is not as it was. */
function damageTo(f: Fixture): string | undefined {
  const armed = f.uffd.armedPages(f.region);
  if (armed !== ARMED) return `${armed} pages are armed, not ${ARMED}`;
  if (f.uffd.registrations.length !== 3) return `${f.uffd.registrations.length} registrations, not 3`;
  if (f.uffd.armedPages(f.grown) !== 0) return 'pages of another region are armed';
  const written = f.tracker.peek();
  if (written.pageCount !== 1 || !written.has(f.page.byteLength)) return `tracked: ${inspect(written)}`;
  if (f.tracked.bytes[f.page.byteLength] !== 1) return 'memory was written';
  return undefined;
}

function runCases(cases: readonly Case[]): string[] {
  const f = makeFixture();
  const wrong: string[] = [];
  for (const each of cases) {
    const fault = faultOf(each, f) ?? damageTo(f);
    if (fault !== undefined) wrong.push(`${each.title}: ${fault}`);
    f.uffd.writeProtect(f.region, { offset: 0, length: ARMED * f.page.byteLength });
  }
  f.uffd.close();
  f.tracker.close();
  f.snapshot.close();
  return wrong;
}

for (const [name, cases] of Object.entries(CASES)) {
  test(`it names the mistake in ${name}, and changes nothing (${cases.length} ways)`, () => {
    assert.deepEqual(runCases(cases), []);
  });
}

test('it takes null for a mistake, not for nothing said', () => {
  // Each with objects of its own: what is taken for nothing said has effects.
  assert.deepEqual(
    NULLS.flatMap((each) => runCases([each])),
    [],
  );
});

test('it refuses `new` where objects come from methods', () => {
  const wrong = CONSTRUCTORS.flatMap(([name, make]) => {
    try {
      make();
      return [`${name} was made`];
    } catch (error) {
      const { code, message } = error as Coded;
      return error instanceof TypeError && typeof code === 'string' ? [] : [`${name}: ${code}: ${message}`];
    }
  });
  assert.deepEqual(wrong, []);
});

test('it says what it received', () => {
  const f = makeFixture();
  const received: [value: unknown, shown: RegExp][] = [
    ['4096', /Received '4096'$/],
    [5n, /Received 5n$/],
    [{}, /Received an instance of Object$/],
    [new Map(), /Received an instance of Map$/],
    [Object.create(null), /Received an instance of Object$/],
    [Symbol('where'), /Received Symbol\(where\)$/],
    [Math.max, /Received function max$/],
    [true, /Received true$/],
  ];
  for (const [offset, message] of received) {
    assert.throws(
      () => {
        f.uffd.writeProtect(f.region, { offset: offset as number });
      },
      { code: 'ERR_INVALID_ARG_TYPE', message },
    );
  }
  f.uffd.close();
});

test('it reads events with one consumer at a time, and the refused one takes nothing', async () => {
  const f = makeFixture();
  const first = f.uffd.events();
  assert.throws(() => f.uffd.events(), { name: 'UffdError', code: 'ERR_UFFD_BUSY' });
  assert.throws(() => f.uffd[Symbol.asyncIterator](), { name: 'UffdError', code: 'ERR_UFFD_BUSY' });
  await first.return?.();
  const second = f.uffd.events();
  await second.return?.();
  f.uffd.close();
});

test('it leaves nothing armed, busy or broken after every mistake twenty times over', async () => {
  await passScenario('bad-input', 'losesNothing', { timeoutMs: 60_000 });
});

for (const userModeOnly of [false, true]) {
  test(`it refuses copy() from memory whose missing pages are served${userModeOnly ? ' in user-mode-only' : ''} (D6)`, async () => {
    await passScenario('bad-input', 'copiesFromItself', { args: [String(userModeOnly)] });
  });
}

test('it survives sizes that cannot be had', async () => {
  await passScenario('bad-input', 'allocatesTheImpossible');
});

test('it takes a hole in an array of memories for a mistake', () => {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const sparse = [, memory] as WebAssembly.Memory[];
  for (const use of [() => new DirtyTracker(sparse), () => Snapshot.take(sparse)]) {
    assert.throws(use, { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /memory\[0\]/ });
  }
});

test('it makes no UffdError without a code', () => {
  const Made = UffdError as unknown as new (message: string, fields?: unknown) => UffdError;
  for (const fields of [undefined, null, {}, { code: 1 }]) {
    assert.throws(() => new Made('x', fields), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  }
  assert.equal(new Made('x', { code: 'ERR_OF_MINE' }).code, 'ERR_OF_MINE');
});

test('it shows what has the prototype of a class and is none of it', () => {
  for (const each of [Region, DirtyTracker, DirtyPages, Snapshot, Userfaultfd]) {
    assert.equal(inspect(Object.create(each.prototype as object)), `${each.name} {}`);
    assert.doesNotThrow(() => inspect(each.prototype));
  }
});

test('it copies the bytes of a buffer, whatever its properties say, and none of one that lies outside', () => {
  const region = Region.allocate({ bytes: 4 * 4096 });
  const { pageSize } = region;
  using uffd = Userfaultfd.open();
  uffd.register(region, 'missing');
  class Liar extends Uint8Array {
    override get buffer(): ArrayBuffer {
      throw new Error('asked for buffer');
    }
    override get byteLength(): number {
      return 1;
    }
    override get byteOffset(): number {
      return 2 ** 40;
    }
  }
  const liar = new Liar(pageSize).fill(7);
  assert.equal(uffd.copy(region, 0, liar), pageSize);
  assert.equal(region.bytes[pageSize - 1], 7);
  const buffer = resizableBuffer(2 * pageSize, 2 * pageSize);
  const views = [new DataView(buffer, pageSize, pageSize), new Uint8Array(buffer, pageSize, pageSize)];
  buffer.resize(pageSize);
  for (const view of views) {
    assert.throws(() => uffd.copy(region, pageSize, view), { code: 'ERR_UFFD_DETACHED' });
  }
});

test('it reads own options only: what a program put on Object.prototype is not meant for it', () => {
  const region = Region.allocate({ bytes: 4 * 4096 });
  region.bytes.fill(1);
  const prototype = Object.prototype as unknown as Record<string, unknown>;
  try {
    Object.assign(prototype, { mine: 1, offset: region.pageSize, bytes: 0.5, engine: 'none', batch: -1 });
    region.discard();
    assert.equal(region.bytes[0], 0, 'all of it');
    assert.throws(() => Region.allocate({} as { bytes: number }), { code: 'ERR_INVALID_ARG_TYPE' });
    Region.allocate({ bytes: 1 }).close();
    new DirtyTracker(region, {}).close();
    using snapshot = Snapshot.take(region, {});
    assert.equal(snapshot.read().byteLength, region.byteLength);
    snapshot.close();
    using uffd = Userfaultfd.open();
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
    assert.equal(uffd.armedPages(region), region.byteLength / region.pageSize);
    void uffd.events().return?.();
  } finally {
    for (const name of ['mine', 'offset', 'bytes', 'engine', 'batch'])
      Reflect.deleteProperty(prototype, name);
  }
  try {
    Object.assign(prototype, { shared: new Uint8Array(8), mapping: {}, source: {} });
    using uffd = Userfaultfd.open({ features: ['EVENT_REMOVE'] });
    region.discard();
    uffd.register(region, 'missing').close();
    uffd.register(region, 'missing', { source: { file: __filename } });
    assert.equal(region.bytes[0], readFileSync(__filename)[0]);
  } finally {
    for (const name of ['shared', 'mapping', 'source']) Reflect.deleteProperty(prototype, name);
  }
});

test('it registers memory as it is when the options have been read', () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 4, shared: true });
  const grown = Region.from(memory);
  using uffd = Userfaultfd.open();
  const registration = uffd.register(grown, 'write-protect', {
    get resolve(): 'native' {
      memory.grow(2);
      return 'native';
    },
  });
  assert.equal(registration.byteLength, 3 * 65_536);
  uffd.writeProtect(grown);
  const closed = Region.allocate({ bytes: 4096, shared: true });
  assert.throws(
    () =>
      uffd.register(closed, 'missing', {
        get resolve(): 'native' {
          closed.close();
          return 'native';
        },
      }),
    { code: 'ERR_UFFD_CLOSED' },
  );
  assert.equal(uffd.registrations.length, 1);
});
