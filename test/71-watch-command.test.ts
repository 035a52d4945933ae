// userfaultfd watch: the program it runs is none the wiser, and everything it writes is seen.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { cannotRun } from './support/skip.js';
import { runCommand, runNode, type Run } from './support/command.js';
import { only, PROGRAMS, recordsOf, watch, watchJson } from './support/watch.js';

const root = path.join(__dirname, '..', '..');
const temporary = mkdtempSync(path.join(os.tmpdir(), 'uffd-watch-'));
after(() => {
  rmSync(temporary, { recursive: true, force: true });
});

/** Without what `watch` says at the end. */
function programsOwn(stderr: string): string {
  return stderr.replace(/^userfaultfd: .*\n(?: {2}.*\n)*/gm, '');
}

test('it gives the program its arguments, input, environment and descriptors, and takes its exit code', async () => {
  const args = ['--json', '--', '-x', 'ö'];
  const options = { cwd: temporary, input: 'from standard input', env: { UFFD_SOME: 'thing' } };
  const alone = await runNode([PROGRAMS, 'describe', ...args], options);
  const watched = await watch([], ['describe', ...args], options);
  // A child process has the preload among its options, and is not watched.
  assert.equal(watched.stdout, alone.stdout);
  assert.equal(programsOwn(watched.stderr), alone.stderr);
  assert.deepEqual([alone.code, watched.code], [3, 3]);
  const separated = await runCommand(['watch', PROGRAMS, '--', 'describe', ...args], options);
  assert.equal(separated.stdout, alone.stdout);
});

for (const name of ['exit', 'throw', 'reject', 'rejectInstantiate', 'constructors']) {
  test(`it changes nothing for a program that does this: ${name}`, async () => {
    const alone = await runNode([PROGRAMS, name]);
    const watched = await watch([], [name]);
    assert.deepEqual([watched.code, watched.signal], [alone.code, alone.signal], watched.stderr);
    assert.equal(watched.stdout, alone.stdout);
    assert.equal(programsOwn(watched.stderr), alone.stderr);
  });
}

test('it runs ES modules and CommonJS, and leaves what is wrong with a script to Node.js', async () => {
  const scripts: [name: string, text: string, code: number, stderr: RegExp][] = [
    ['module.mjs', "import { ok } from 'node:assert'; ok(import.meta.url); console.log('ran')", 0, /^$/],
    ['common.cjs', "require('node:assert').ok(module); console.log('ran')", 0, /^$/],
    ['syntax.cjs', 'const = 3', 1, /SyntaxError/],
    ['syntax.mjs', 'const = 3', 1, /SyntaxError/],
    ['rejects.mjs', "throw new TypeError('at the top')", 1, /TypeError: at the top/],
  ];
  for (const [name, text] of scripts) writeFileSync(path.join(temporary, name), text);
  for (const [name, , code, stderr] of [...scripts, ['missing.cjs', '', 1, /Cannot find module/] as const]) {
    const run = await runCommand(['watch', '--', name], { cwd: temporary });
    assert.equal(run.code, code, name + run.stderr);
    assert.match(programsOwn(run.stderr), stderr);
    assert.equal(run.stdout, code === 0 ? 'ran\n' : '');
  }
});

test('it ends as the program was ended: by a signal, with what was seen until then', async () => {
  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGABRT'] as const) {
    const run = await watch(['--json'], ['killed', signal]);
    assert.deepEqual([run.code, run.signal], [null, signal]);
    const [end] = only(recordsOf(run.stderr), 'end');
    assert.deepEqual([end!.code, end!.signal, end!.complete], [null, signal, false]);
  }
});

test('it passes signals on, and goes on as long as the program does', async () => {
  const run = await watch([], ['signals'], {
    started: (child) => {
      child.stdout.on('data', (text: string) => {
        if (/READY|SIGTERM 1/.test(text)) child.kill('SIGTERM');
      });
    },
  });
  assert.deepEqual([run.code, run.signal], [0, null], run.stderr);
  assert.equal(run.stdout, 'READY\nSIGTERM 1\nSIGTERM 2\n');
});

test('it finds memories however they are made, and tells what was written to each', async () => {
  const { memories, marks, end } = await watchJson(['kinds'], ['--interval', '100000']);
  const written = marks.find(({ names }) => names.includes('written'))!;
  const kindOf = new Map(memories.map(({ memory, kind }) => [memory, kind]));
  const pagesOf = (kind: string): number[] =>
    written.memories.filter(({ memory }) => kindOf.get(memory) === kind).map(({ pages }) => pages);
  assert.deepEqual(pagesOf('WebAssembly.Memory').sort(), [1, 2, 3, 4, 5]);
  assert.deepEqual(pagesOf('ArrayBuffer'), [6, 8, 9, 10]);
  assert.deepEqual(pagesOf('SharedArrayBuffer'), [7]);
  assert.equal(written.pages, 55);
  const grown = marks.find(({ names }) => names.includes('grown'))!;
  assert.equal(grown.pages, 32);
  assert.equal(end.memories, 10);
  assert.ok(end.complete);
  assert.ok(memories.every(({ kind, exact }) => kind !== 'WebAssembly.Memory' || exact));

  const wasmOnly = await watchJson(['kinds'], ['--no-buffers']);
  assert.equal(wasmOnly.end.memories, 5);
  const small = await watchJson(['kinds'], ['--min-bytes', String(1 << 19)]);
  assert.equal(small.end.memories, 11);
});

test('it tells what becomes of memories: given away, collected', async () => {
  const { memories } = await watchJson(['lives'], ['--interval', '20'], { nodeArgs: ['--expose-gc'] });
  const statesOf = (kind: string): string[] => [
    ...new Set(memories.filter((each) => each.kind === kind).map(({ state }) => state)),
  ];
  assert.deepEqual(statesOf('ArrayBuffer'), ['live', 'detached']);
  assert.deepEqual(statesOf('WebAssembly.Memory'), ['live', 'freed']);
  const [buffer] = memories.filter(({ kind }) => kind === 'ArrayBuffer').slice(-1);
  assert.equal(buffer!.totalPages, 257, 'the page that it shares at its end as well');
});

test('it keeps no memory alive', async () => {
  // Each has three mappings; a process may have 65,530.
  const count = process.env['UFFD_TEST_FORGOTTEN'] ?? '5000';
  const { stdout, end } = await watchJson(['forgotten', count]);
  assert.equal(stdout, `${count}\n`);
  assert.ok(end.memories <= Number(count));
});

test('it follows a thousand memories', async () => {
  const alone = await runNode([PROGRAMS, 'thousand']);
  const { stdout, marks, end } = await watchJson(['thousand'], ['--interval', '50']);
  assert.equal(stdout, alone.stdout);
  const [made, written] = marks;
  assert.equal(made!.pages, 0);
  assert.equal(written!.memories.length, 1000);
  assert.ok(written!.memories.every(({ pages }) => pages === 1));
  assert.equal(end.memories, 1000);
});

test('it leaves a flood of output whole', async () => {
  const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
  const run = await watch(['--json', '--interval', '10'], ['flood']);
  assert.equal(run.code, 0, run.stderr);
  assert.equal(run.stdout.length, 20_000 * 1024);
  assert.equal(digest(run.stdout), digest(`${'x'.repeat(1023)}\n`.repeat(20_000)));
  const pages = only(recordsOf(run.stderr), 'memory').reduce(
    (most, each) => Math.max(most, each.totalPages),
    0,
  );
  assert.ok(pages >= 256);
});

test('it leaves pipes as they are: a synchronous write waits for a slow reader', async () => {
  const run = await watch([], ['writeSync'], {
    started: (child) => {
      child.stdout.pause();
      // The summary says that it is over, which it cannot be before somebody reads.
      setTimeout(() => child.stdout.resume(), 300);
    },
  });
  assert.equal(run.code, 0, run.stderr);
  assert.equal(run.stdout.length, 2_000_000);
});

test('it watches Workers, and Workers of Workers', async () => {
  const { memories, marks } = await watchJson(['workers']);
  assert.deepEqual(
    marks.map(({ names, thread, pages }) => [names[0], thread, pages]),
    [
      ['depth 1', 1, 1],
      ['depth 2', 2, 2],
    ],
  );
  assert.deepEqual([...new Set(memories.map(({ thread }) => thread))].sort(), [1, 2]);
  const terminated = await watchJson(['terminated']);
  assert.equal(terminated.stdout, 'terminated\n');
  assert.deepEqual(
    terminated.marks.map(({ names, pages }) => [names[0], pages]),
    [['from the Worker', 1]],
  );
});

test('it keeps what several threads say at once apart, and loses none of it', async () => {
  const count = 100;
  const { marks } = await watchJson(['chorus', String(count)], ['--interval', '5']);
  const names = marks.flatMap((mark) => mark.names.map((name) => name.split(':').slice(0, 2).join(':')));
  const expected = [0, 1, 2, 3].flatMap((voice) => Array.from({ length: count }, (_, i) => `${voice}:${i}`));
  assert.deepEqual(names.sort(), expected.sort());
  assert.ok(marks.every((mark) => mark.names.every((name) => name.endsWith('z'.repeat(9000)))));
});

test('it shares memory with trackers of the program: each sees every write once', async () => {
  const { stdout, marks } = await watchJson(['trackers']);
  assert.equal(stdout, 'seen\n');
  assert.deepEqual(
    marks.map(({ names, pages }) => [names[0], pages]),
    [
      ['before', 0],
      ['both', 4],
      ['after', 1],
    ],
  );
});

test('it lets go of memory that the program registers itself', async () => {
  const { stdout, memories } = await watchJson(['registers']);
  assert.equal(stdout, 'served\n');
  assert.deepEqual(
    memories.map(({ state }) => state),
    ['registered'],
  );
});

test('it says how old its news is while the program is busy', async () => {
  let said = '';
  const run = await watch(['--interval', '20'], ['busy'], {
    started: (child) => {
      child.stderr.on('data', (text: string) => {
        said += text;
        if (/1 memory, last look .* ago/.test(said)) child.stdin.end();
      });
    },
  });
  assert.equal(run.code, 0, run.stderr);
  assert.match(run.stderr, /userfaultfd: not busy: 2 pages, 8\.0 KiB/);
});

test('it goes on without whoever read the records', async () => {
  const run = await watch(['--json', '--interval', '5'], ['manyMarks', '3000'], {
    started: (child) => {
      child.stderr.once('data', () => child.stderr.destroy());
    },
  });
  assert.deepEqual([run.code, run.stdout], [0, 'finished\n']);
});

test('it does not slow the program down when nobody reads, and loses no mark', async () => {
  const count = 5000;
  let finished = false;
  const run = await watch(['--json', '--interval', '1000'], ['manyMarks', String(count)], {
    started: (child) => {
      child.stderr.pause();
      child.stdout.on('data', () => {
        finished = true;
        child.stderr.resume();
      });
    },
  });
  assert.ok(finished);
  assert.equal(run.code, 0);
  const records = recordsOf(run.stderr);
  const marks = only(records, 'mark');
  assert.equal(
    marks.reduce((sum, { names, unnamed }) => sum + names.length + unnamed, 0),
    count,
  );
  assert.deepEqual(
    only(records, 'end').map(({ marks: all, complete }) => [all, complete]),
    [[count, true]],
  );
});

test('it writes to a file when told to, and says when it cannot', async () => {
  const file = path.join(temporary, 'records.jsonl');
  const run = await watch(['--json', '--output', file], ['exit']);
  assert.deepEqual([run.code, run.stderr], [7, '']);
  const [memory] = only(recordsOf(readFileSync(file, 'utf8')), 'memory');
  assert.deepEqual(memory!.ranges, [
    { offset: 3 * 4096, length: 4096 },
    { offset: 5 * 4096, length: 4096 },
  ]);
  const refused = await watch(['--output', path.join(temporary, 'no', 'where')], ['exit']);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /ENOENT/);
  const full = await watch(['--output', '/dev/full'], ['exit']);
  assert.equal(full.code, 7);
  assert.match(full.stderr, /^userfaultfd: \/dev\/full is not complete: .*ENOSPC.*\n$/);
  // Nor does it matter that nobody reads that.
  const unread = await watch(['--json', '--interval', '5', '--output', '/dev/full'], ['manyMarks', '3000'], {
    started: (child) => child.stderr.destroy(),
  });
  assert.deepEqual([unread.code, unread.stdout], [0, 'finished\n']);
});

test('it keeps its file open through collections of its own garbage', async () => {
  const file = path.join(temporary, 'long.jsonl');
  const count = 5000;
  const run = await watch(
    ['--json', '--interval', '5', '--output', file],
    ['manyMarks', String(count)],
    // Every collection is a full one.
    { nodeArgs: ['--stress-compaction'] },
  );
  assert.deepEqual([run.code, run.stderr], [0, '']);
  const [end] = only(recordsOf(readFileSync(file, 'utf8')), 'end');
  assert.deepEqual([end!.marks, end!.complete], [count, true]);
});

test('it sees the same with each engine, and tells with wp-sync who wrote', async () => {
  for (const engine of ['wp-async', 'wp-sync', 'compare']) {
    const watched = await watchJson(['kinds'], ['--interval', '100000', '--engine', engine, '--no-buffers']);
    const written = watched.marks.find(({ names }) => names.includes('written'))!;
    assert.deepEqual(
      written.memories.map(({ pages }) => pages),
      [1, 2, 3, 4, 5],
      engine,
    );
    assert.equal(watched.marks.find(({ names }) => names.includes('grown'))!.pages, 32, engine);
    assert.ok(watched.end.complete);

    const { stdout, memories } = await watchJson(['writers'], ['--interval', '100000', '--engine', engine]);
    const [wasm] = memories.filter(({ kind }) => kind === 'WebAssembly.Memory');
    assert.deepEqual(wasm!.ranges, [{ offset: 4096, length: 2 * 4096 }]);
    assert.deepEqual(
      wasm!.threadIds,
      engine === 'wp-sync' ? (JSON.parse(stdout) as number[]).sort((a, b) => a - b) : undefined,
    );
    // Buffers share pages with other data.
    assert.equal(memories.length, engine === 'wp-sync' ? 1 : 2);
  }
});

test('it follows a thousand memories with wp-sync, and keeps none alive', async () => {
  const { marks, end } = await watchJson(['thousand'], ['--interval', '50', '--engine', 'wp-sync']);
  assert.ok(marks[1]!.memories.every(({ pages }) => pages === 1));
  assert.equal(end.memories, 1000);
  const { stdout } = await watchJson(['forgotten', '2000'], ['--engine', 'wp-sync']);
  assert.equal(stdout, '2000\n');
});

test('it says why a program is not watched with wp-sync: an ordinary user', async (t) => {
  if (process.getuid?.() !== 0) {
    cannotRun(t, 'run as root: the program becomes an ordinary user');
    return;
  }
  const run = await watch(['--engine', 'wp-sync', '--json'], ['exit'], { asNobody: true });
  assert.equal(run.code, 7, run.stderr);
  const [problem] = only(recordsOf(run.stderr), 'problem');
  assert.match(problem!.message, /EPERM|EACCES/);
});

test('it compares where userfaultfd is refused, and says so', async () => {
  const refused = path.join(__dirname, 'scenarios', 'command-line-refused.js');
  const text = await watch([], ['exit'], { nodeArgs: ['--require', refused] });
  assert.equal(text.code, 7, text.stderr);
  assert.match(text.stderr, /each look compares memory with a copy/);
  assert.match(text.stderr, /2 pages written/);
  const asked = await watch(['--engine', 'wp-async'], ['exit'], { nodeArgs: ['--require', refused] });
  assert.equal(asked.code, 7);
  assert.match(asked.stderr, /not watched: .*EPERM/);
});

test('it refuses options that make no sense', async () => {
  const wrong: [string[], RegExp][] = [
    [['--interval', '0'], /integer from 1/],
    [['--engine', 'guess'], /Allowed choices are auto, wp-async, wp-sync, compare/],
    [['--quick'], /unknown option '--quick'/],
  ];
  for (const [options, message] of wrong) {
    const run: Run = await watch(options, ['exit']);
    assert.equal(run.code, 1);
    assert.match(run.stderr, message);
  }
  const nothing = await runCommand(['watch']);
  assert.match(nothing.stderr, /missing required argument 'script'/);
});

test('it tells the pages of each transaction of SQLite in WebAssembly', async () => {
  const example = path.join(root, 'examples', 'sqlite-transactions.mjs');
  const alone = await runNode([example]);
  assert.equal(alone.stdout, '500 accounts hold 54980, the richest 115\n', alone.stderr);
  const run = await runCommand(['watch', '--json', '--no-buffers', example]);
  assert.deepEqual([run.code, run.stdout], [0, alone.stdout], run.stderr);

  const records = recordsOf(run.stderr);
  const marks = only(records, 'mark');
  const transfers = Array.from({ length: 20 }, (_, i) => `transfer ${i + 1}`);
  assert.deepEqual(
    marks.flatMap(({ names }) => names),
    ['schema', '500 accounts', ...transfers, 'interest'],
  );
  const { byteLength } = only(records, 'memory').at(-1)!;
  const pages = new Map(marks.map(({ names, pages: count }) => [names[0]!, count]));
  for (const [name, count] of pages) {
    assert.ok(count > 0, name);
    assert.ok(count * 4096 < byteLength / 4, `${name}: ${count} pages of ${byteLength} bytes`);
  }
  // Two rows are on two leaves of the table; all rows are on all.
  for (const name of transfers) assert.ok(pages.get(name)! < pages.get('interest')!, name);
});
