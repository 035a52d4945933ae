// What a run tells: the content of the JSON file, and of the tables made from it.

import type { Machine } from './machine.js';
import type { Statistics } from './statistics.js';

/** `time` is in nanoseconds. */
export type Unit = 'time' | 'bytes' | 'per second';

/** A bound on a ratio of two sides, or on one side. Judged by the median. */
export interface Verdict {
  what: string;
  atMost?: number;
  atLeast?: number;
  value: number;
  met: boolean;
}

/** One side divided by another, pair by pair: the two measurements of a pair were made one after the other. */
export interface Ratio {
  of: string;
  to: string;
  p10: number;
  p50: number;
  p90: number;
  /** The smallest of the one by the smallest of the other: what is left when nothing else disturbs. */
  smallest: number;
}

export interface RowResult {
  name: string;
  unit: Unit;
  sides: Record<string, Statistics>;
  ratios: Ratio[];
  verdicts: Verdict[];
  notes: string[];
}

export interface CaseResult {
  name: string;
  title: string;
  outcome: 'done' | 'HANG' | 'failed' | 'not run';
  /** Why it is not `done`. */
  reason?: string;
  /** From start to end of its process, in milliseconds. */
  elapsedMs: number;
  rows: RowResult[];
}

export interface RunOptions {
  /** Sizes of memory are multiplied by this. */
  scale: number;
  /** Instead of the number that each row has by itself. */
  rounds: number | undefined;
}

export interface RunResult {
  machine: Machine;
  options: RunOptions;
  cases: CaseResult[];
}
