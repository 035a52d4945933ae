// A Python interpreter whose every statement can be undone.

import assert from 'node:assert/strict';
import { SnapshotHistory } from '../../lib/index.js';
import { Python } from '../../lib/demo/python.js';
import { percentiles, timed } from './history-cost.js';
import { seeded } from './dirty-support.js';

const STATEMENTS = 50;
const BACK = 200;

const KINDS: readonly ((i: number) => string)[] = [
  (i) => `x = ${i}`,
  (i) => `names.append("statement ${i}")`,
  (i) => `squares = {j: j * j for j in range(${i * 200})}`,
  (i) => `text = "-".join(str(j) for j in range(${i * 50}))`,
  () => 'names = names[::2]',
  (i) => `def f(n): return n + ${i}`,
  (i) => `import ${['json', 'decimal', 'fractions', 'string', 'textwrap'][i % 5]}`,
];
const QUESTION =
  'repr((x, names, len(squares), sum(squares.values()), hash(text) == hash("".join(text)), len(text), f(1), sorted(m for m in sys.modules if m in ("json", "decimal", "fractions", "string", "textwrap"))))';

interface Known {
  id: number;
  answer: unknown;
  bytes: Buffer;
}

/** After each statement an entry; then back to any of them, in any order. */
export async function everyStatementUndone(): Promise<void> {
  const python = await Python.load();
  const random = seeded(5);
  python.evaluate('import sys; x = 0; names = []; squares = {}; text = ""\ndef f(n): return n');
  python.evaluate(QUESTION);
  const bytes = (): Uint8Array => new Uint8Array(python.memory.buffer);
  using history = new SnapshotHistory(python.memory);
  history.take();
  const base = history.bytes;
  const times = {
    take: [] as number[],
    restore: [] as number[],
    undo: [] as number[],
    copyBack: [] as number[],
  };
  const known: Known[] = [];
  for (let i = 1; i <= STATEMENTS; i++) {
    python.evaluate(KINDS[random(KINDS.length)]!(i));
    let id = 0;
    times.take.push(timed(() => (id = history.take(`statement ${i}`))));
    const copy = Buffer.from(bytes());
    known.push({ id, bytes: copy, answer: python.evaluate(QUESTION) });
    history.restore(id);
  }
  const shown = {
    size: history.size,
    perEntry: (history.bytes - base) / STATEMENTS,
    memory: bytes().byteLength,
  };

  for (let i = 0; i < BACK; i++) {
    const entry = known[random(known.length)]!;
    times.restore.push(timed(() => history.restore(entry.id)));
    const now = bytes();
    assert.equal(
      Buffer.compare(now.subarray(0, entry.bytes.byteLength), entry.bytes),
      0,
      `entry ${entry.id}`,
    );
    assert.ok(isZero(now.subarray(entry.bytes.byteLength)), 'what grew since is zero');
    assert.equal(history.diff(entry.id).isEmpty, true);
    assert.equal(python.evaluate(QUESTION), entry.answer, `entry ${entry.id}`);
  }

  // Undo of one statement, beside copying the whole heap back into memory that is there.
  history.restore(known.at(-1)!.id);
  const heap = Buffer.from(bytes());
  for (let i = 0; i < 40; i++) {
    python.evaluate(`x = ${i}`);
    history.take();
    times.undo.push(timed(() => history.undo()));
    assert.equal(Buffer.compare(bytes(), heap), 0);
    times.copyBack.push(timed(() => bytes().set(heap)));
    history.restore(known.at(-1)!.id);
  }
  assert.equal(shown.size, STATEMENTS + 1);
  console.log(
    JSON.stringify({
      ...shown,
      take: percentiles(times.take),
      restore: percentiles(times.restore),
      undo: percentiles(times.undo),
      copyBack: percentiles(times.copyBack),
    }),
  );
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.byteLength === 0 || Buffer.compare(bytes, Buffer.alloc(bytes.byteLength)) === 0;
}
