// The main job, on real memory: see what each Python statement writes, take a snapshot, let Python
// destroy itself, and put it back.

import { release } from 'node:os';
import { createSpinner } from 'nanospinner';
import type { DirtyPages } from '../dirty-pages.js';
import { DirtyTracker } from '../dirty-tracker.js';
import { Snapshot } from '../snapshot.js';
import { Python } from './python.js';
import type { Check, DemoReport, Step } from './report.js';
import { checksText, headingText, heatText, onTerminal, stepsText, unpopulatedText } from './report.js';
import { showUnpopulated } from './unpopulated.js';

/** Cells of the strip: each stands for an equal share of the memory. */
const STRIP_CELLS = 40;

const STATEMENTS = [
  'x = 1',
  'x = 2',
  'squares = [i * i for i in range(10_000)]',
  'import json, decimal, fractions',
  'text = json.dumps({"squares": squares})',
  'total = sum(decimal.Decimal(i) / 7 for i in range(2_000))',
  'def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)',
  'answer = fib(18)',
];

const DAMAGE = [
  'big = {i: [str(j) for j in range(50)] for i in range(20_000)}',
  'x = "lost"; squares.clear(); answer = None',
  'for name in [n for n in sys.modules if n.split(".")[0] in ("json", "decimal", "fractions")]: del sys.modules[name]',
  'import builtins; del builtins.len, builtins.isinstance, builtins.__import__',
];

/** What Python must still know after the restore; each is asked before the snapshot and after. */
const QUESTIONS: Record<string, string> = {
  'values of x and answer': 'repr((x, answer))',
  'the list squares': 'repr((len(squares), squares[-1], sum(squares)))',
  'names in sys.modules': '"\\n".join(sorted(sys.modules))',
  'names in globals()': '"\\n".join(sorted(k for k in globals() if not k.startswith("_")))',
  'a computation with the modules':
    'str(fractions.Fraction(sum(squares), 7)) + json.dumps([fib(15), str(total)])',
};

/** Runs the demo and prints it; resolves to whether every check passed. */
export async function runDemo({ json }: { json: boolean }): Promise<boolean> {
  const print = (text: string): void => {
    if (!json) console.log(text);
  };
  const python = await loadPython(json);
  const report = trackAndRestore(python, print);
  print(unpopulatedText((report.unpopulated = showUnpopulated())));
  report.checks.push(...unpopulatedChecks(report));
  report.ok = report.checks.every((check) => check.passed);
  print(checksText(report));
  if (json) console.log(JSON.stringify(report, undefined, 2));
  return report.ok;
}

async function loadPython(quiet: boolean): Promise<Python> {
  const message = 'Loading Python (compiled to WebAssembly)';
  if (quiet) return Python.load();
  if (!onTerminal) {
    console.log(`${message} …`);
    return Python.load();
  }
  const spinner = createSpinner(message, { stream: process.stdout }).start();
  try {
    const python = await Python.load();
    spinner.success({ text: `Python ${python.version} is loaded` });
    return python;
  } catch (error) {
    spinner.error();
    throw error;
  }
}

function trackAndRestore(python: Python, print: (text: string) => void): DemoReport {
  const { memory } = python;
  const wholeCopyMs = timeWholeCopy(memory.buffer);
  const checks: Check[] = [];
  const check = (name: string, passed: boolean, detail = ''): void => {
    checks.push({ name, passed, detail });
  };

  const looks: DirtyPages[] = [];
  using tracker = new DirtyTracker(memory);
  const run = (label: string, work: () => unknown): Step => {
    tracker.collect();
    const ran = timed(work);
    const collected = timed(() => tracker.collect());
    looks.push(collected.value);
    return stepOf(label, ran.ms, collected.value, collected.ms, memory.buffer.byteLength);
  };

  const report: DemoReport = {
    machine: { kernel: release(), node: process.version, user: process.getuid?.() ?? -1 },
    python: python.version,
    engine: tracker.engine,
    memoryBytes: memory.buffer.byteLength,
    pageSize: tracker.collect().pageSize,
    wholeCopyMs,
    statements: [],
    snapshot: { ms: 0, bytes: 0 },
    undo: undefined,
    damage: [],
    restore: { ms: 0, pages: 0, bytes: 0, wholeCopyBackMs: 0, grownBytes: 0 },
    unpopulated: undefined,
    checks,
    ok: false,
  };
  print(headingText(report));
  report.statements = STATEMENTS.map((code) => run(code, () => python.evaluate(code)));
  print(stepsText('What each statement wrote', report.statements, report));
  print(heatText(looks));
  check(
    'the smallest statement wrote something and less than the whole memory',
    report.statements[1]!.pages > 0 && report.statements[1]!.bytes < report.memoryBytes,
    `${report.statements[1]!.pages} pages`,
  );

  const before = answers(python);
  // A copy made without this package: what the restored memory is held against, byte by byte.
  const oracle = new Uint8Array(memory.buffer).slice();
  const taken = timed(() => Snapshot.take(memory));
  using snapshot = taken.value;
  report.snapshot = { ms: taken.ms, bytes: snapshot.byteLength };

  const slip = run('x = "a slip of the pen"', () => python.evaluate('x = "a slip of the pen"'));
  const undone = timed(() => snapshot.restore());
  report.undo = { step: slip, ms: undone.ms, pages: undone.value.pages };
  check('one statement is undone', python.evaluate('x') === 2, `${undone.value.pages} pages`);

  report.damage = DAMAGE.map((code) => run(code, () => python.evaluate(code)));
  print(stepsText('Snapshot taken; now Python destroys itself', report.damage, report));
  check('Python is broken after the damage', python.raises('len([1, 2, 3])'));
  const lost = snapshot.diff().pageCount;
  check('the snapshot sees the damage', lost > 0, `${lost} pages differ`);

  const restored = timed(() => snapshot.restore());
  const now = new Uint8Array(memory.buffer);
  report.restore = {
    ms: restored.ms,
    pages: restored.value.pages,
    bytes: restored.value.bytes,
    wholeCopyBackMs: timeWholeCopy(memory.buffer),
    grownBytes: now.byteLength - oracle.byteLength,
  };
  const same = Buffer.compare(oracle, now.subarray(0, oracle.byteLength)) === 0;
  check('every byte of memory equals the snapshot', same, `${oracle.byteLength} bytes compared`);
  const grown = now.subarray(oracle.byteLength);
  check(
    'memory that came with growth reads as zero',
    grown.every((byte) => byte === 0),
    `${grown.byteLength} bytes`,
  );
  check('nothing differs from the snapshot', snapshot.diff().isEmpty);

  check('Python works again', !python.raises('len([1, 2, 3])'));
  const after = answers(python);
  for (const [question, answer] of Object.entries(before))
    check(`back: ${question}`, after[question] === answer);
  return report;
}

function answers(python: Python): Record<string, string> {
  return Object.fromEntries(
    Object.entries(QUESTIONS).map(([question, code]) => {
      try {
        return [question, String(python.evaluate(code))];
      } catch (error) {
        return [question, `raised ${String(error)}`];
      }
    }),
  );
}

function unpopulatedChecks({ unpopulated }: DemoReport): Check[] {
  if (unpopulated === undefined) return [];
  const { pages, withFeature, withoutFeature } = unpopulated;
  return [
    {
      name: 'with WP_UNPOPULATED every never-touched page is armed and its first write reported',
      passed: withFeature.armedPages === pages && withFeature.writeReported,
      detail: `${withFeature.armedPages} of ${pages}`,
    },
    {
      name: 'without WP_UNPOPULATED none is',
      passed: withoutFeature.armedPages === 0 && !withoutFeature.writeReported,
      detail: `${withoutFeature.armedPages} of ${pages}`,
    },
  ];
}

function stepOf(
  label: string,
  runMs: number,
  dirty: DirtyPages,
  collectMs: number,
  memoryBytes: number,
): Step {
  const cells = new Array<number>(STRIP_CELLS).fill(0);
  const share = STRIP_CELLS / memoryBytes;
  for (const { offset, length } of dirty) {
    for (let at = offset; at < offset + length; at += dirty.pageSize) {
      cells[Math.floor(at * share)]! += dirty.pageSize * share;
    }
  }
  return { label, runMs, collectMs, pages: dirty.pageCount, bytes: dirty.byteLength, cells };
}

/** The median of five copies of the whole memory into memory that is there already. */
function timeWholeCopy(buffer: ArrayBuffer | SharedArrayBuffer): number {
  const source = new Uint8Array(buffer);
  const target = new Uint8Array(source.byteLength).fill(1);
  const times = Array.from({ length: 5 }, () => timed(() => target.set(source)).ms);
  return times.sort((a, b) => a - b)[2]!;
}

function timed<T>(work: () => T): { value: T; ms: number } {
  const started = performance.now();
  const value = work();
  return { value, ms: performance.now() - started };
}
