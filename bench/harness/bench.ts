// What a case measures with: rows of sides, measured in pairs.

import { loadNativeAddon, NativeProgram } from './native-program.js';
import type { Ratio, RowResult, RunOptions, Unit, Verdict } from './results.js';
import { median, percentile, statisticsOf } from './statistics.js';

/** One measurement, or several of equal kind; in the unit of the row. */
export type Measured = number | ArrayLike<number>;

/** Does one round. */
export type Side = () => Measured | Promise<Measured>;

/** `ratio: [a, b]` bounds a / b; `side` bounds one alone, in the unit of the row. */
export type Target = ({ ratio: [string, string] } | { side: string; statistic?: 'p50' | 'p99' }) &
  ({ atMost: number } | { atLeast: number });

export interface Row {
  name: string;
  /** Default `time`, in nanoseconds. */
  unit?: Unit;
  /** How often each side is measured, after `warmUp` rounds that are dropped. */
  rounds: number;
  /** Default 2. */
  warmUp?: number;
  /** Each is measured once a round, right after each other, so that what else the machine does hits all. */
  sides: Record<string, Side>;
  /** Made of the sides of a round. */
  derived?: Record<string, (round: Record<string, number>) => number>;
  /** Pairs `[a, b]` whose a / b is told without a bound. */
  ratios?: [string, string][];
  targets?: Target[];
  notes?: string[] | (() => string[]);
}

export interface BenchCase {
  title: string;
  /** Its process is killed after this many seconds. */
  deadlineSeconds: number;
  /** Bytes of memory it takes at scale 1. */
  needsBytes: number;
  run(bench: Bench): Promise<void>;
}

const SMALLEST = 2 * 2 ** 20;

export class Bench {
  readonly #options: RunOptions;
  readonly #binaries: string;
  readonly #done: (row: RowResult) => void;
  readonly #programs: NativeProgram[] = [];

  constructor(options: RunOptions, binaries: string, done: (row: RowResult) => void) {
    this.#options = options;
    this.#binaries = binaries;
    this.#done = done;
  }

  /** A size at this run's scale: whole huge pages. */
  bytes(full: number): number {
    return Math.max(Math.round((full * this.#options.scale) / SMALLEST), 1) * SMALLEST;
  }

  /** A number of things at this run's scale. */
  count(full: number): number {
    return Math.max(Math.round(full * Math.min(this.#options.scale, 1)), 1);
  }

  /** Starts a program of bench/native. */
  async program(name: string, ...args: (string | number)[]): Promise<NativeProgram> {
    const program = await NativeProgram.start(this.#binaries, name, args.map(String));
    this.#programs.push(program);
    return program;
  }

  /** Loads an addon of bench/native. */
  addon(name: string): unknown {
    return loadNativeAddon(this.#binaries, name);
  }

  async row(row: Row): Promise<void> {
    const rounds = this.#options.rounds ?? row.rounds;
    const warmUp = row.warmUp ?? 2;
    const names = Object.keys(row.sides);
    const all = new Map<string, number[]>(names.map((name) => [name, []]));
    const perRound: Record<string, number>[] = [];
    for (let round = -Math.min(warmUp, rounds); round < rounds; round++) {
      const middles: Record<string, number> = {};
      // Who comes first changes, so that nobody always finds the caches of the same neighbour.
      const order = round % 2 === 0 ? names : names.toReversed();
      for (const name of order) {
        const measured = await row.sides[name]!();
        const values = typeof measured === 'number' ? [measured] : measured;
        middles[name] = median(values);
        if (round >= 0) for (let i = 0; i < values.length; i++) all.get(name)!.push(values[i]!);
      }
      if (round < 0) continue;
      for (const [name, make] of Object.entries(row.derived ?? {})) {
        middles[name] = make(middles);
        all.set(name, [...(all.get(name) ?? []), middles[name]]);
      }
      perRound.push(middles);
    }
    this.#done(resultOf(row, all, perRound));
  }

  /** Ends the programs that were started. */
  async close(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.close()));
  }
}

function resultOf(row: Row, all: Map<string, number[]>, perRound: Record<string, number>[]): RowResult {
  const sides = Object.fromEntries([...all].map(([name, values]) => [name, statisticsOf(values)]));
  const ratios: Ratio[] = [];
  const ratioOf = (of: string, to: string): Ratio => {
    const known = ratios.find((ratio) => ratio.of === of && ratio.to === to);
    if (known !== undefined) return known;
    const sorted = Float64Array.from(perRound, (round) => round[of]! / round[to]!).sort();
    const [p10, p50, p90] = [10, 50, 90].map((percent) => percentile(sorted, percent));
    const smallest = sides[of]!.min / sides[to]!.min;
    const ratio = { of, to, p10: p10!, p50: p50!, p90: p90!, smallest };
    ratios.push(ratio);
    return ratio;
  };
  const verdicts = (row.targets ?? []).map((target): Verdict => {
    const [what, value] =
      'ratio' in target
        ? [target.ratio.join(' / '), ratioOf(...target.ratio).p50]
        : [`${target.side} ${target.statistic ?? 'p50'}`, sides[target.side]![target.statistic ?? 'p50']];
    return 'atMost' in target
      ? { what, atMost: target.atMost, value, met: value <= target.atMost }
      : { what, atLeast: target.atLeast, value, met: value >= target.atLeast };
  });
  for (const [of, to] of row.ratios ?? []) ratioOf(of, to);
  const notes = typeof row.notes === 'function' ? row.notes() : (row.notes ?? []);
  return { name: row.name, unit: row.unit ?? 'time', sides, ratios, verdicts, notes };
}

/**
 * How long `work` takes, in nanoseconds. The clock is read once before: where the memory was just written, its
 * own code is in no cache any more, and would be fetched at the cost of `work`.
 */
export function timed(work: () => void): number {
  process.hrtime.bigint();
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start);
}
