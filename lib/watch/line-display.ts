// Without a terminal: one line an interval.

import { isLate, type Display, type ProgramEnd } from './display.js';
import type { Output } from './output.js';
import {
  bytesText,
  COMPARING,
  counted,
  countText,
  endText,
  nameText,
  ratesOf,
  secondsText,
  titleOf,
} from './text.js';
import type { Mark, WatchedProgram } from './watched-program.js';

/** Memories in a line, those that were written. */
const MOST_SHOWN = 3;
const MAIN_THREAD = 0;

export class LineDisplay implements Display {
  readonly #output: Output;
  readonly #intervalMs: number;

  constructor(output: Output, intervalMs: number) {
    this.#output = output;
    this.#intervalMs = intervalMs;
  }

  threadStarted(thread: number, engine: string): void {
    if (thread === 0 && engine === 'compare') this.#print(COMPARING);
  }

  intervalEnded(): void {
    // All of them in one line, at the tick.
  }

  marked({ names, pages, bytes }: Mark): void {
    this.#print(`${names.map(nameText).join(', ')}: ${countText(pages, 'page')}, ${bytesText(bytes)}`);
  }

  problem(_thread: number, message: string): void {
    this.#print(`not watched: ${message}`);
  }

  tick(program: WatchedProgram): void {
    const { memories } = program;
    const written = memories
      .filter(({ pages }) => pages > 0)
      .sort((a, b) => b.pagesPerSecond - a.pagesPerSecond)
      .slice(0, MOST_SHOWN);
    const shown = written.map((state) => {
      const age = program.ageOf(state.thread);
      const late = isLate(age, this.#intervalMs) ? ` (${secondsText(age)} ago)` : '';
      return `; ${titleOf(state)}: ${ratesOf(state)}${late}`;
    });
    const age = program.ageOf(MAIN_THREAD);
    const busy = isLate(age, this.#intervalMs) ? `, last look ${secondsText(age)} ago` : '';
    this.#print(`${secondsText(program.elapsedMs)}, ${counted(memories.length)}${busy}${shown.join('')}`);
  }

  ended(end: ProgramEnd, program: WatchedProgram): void {
    this.#output.write(`${endText(end, program)}\n`);
  }

  #print(text: string): void {
    this.#output.write(`userfaultfd: ${text}\n`);
  }
}
