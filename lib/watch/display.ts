// What shows a watched program: a picture, lines, or records.

import type { ProgramListener, WatchedProgram } from './watched-program.js';

export interface ProgramEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface Display extends ProgramListener {
  /** At each interval of `userfaultfd watch` itself, also when the program says nothing. */
  tick(program: WatchedProgram): void;
  ended(end: ProgramEnd, program: WatchedProgram): void;
}

/** The program is busy, or its thread is gone: what is known is older than it should be. */
export function isLate(ageMs: number, intervalMs: number): boolean {
  return ageMs > 2 * intervalMs + 100;
}
