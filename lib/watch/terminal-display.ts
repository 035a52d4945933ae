// The live picture: pages in address order, hot where they were written just now.

import type { WriteStream } from 'node:tty';
import { drawHeat } from '../heat.js';
import { isLate, type Display, type ProgramEnd } from './display.js';
import { TerminalPanel } from './terminal-panel.js';
import { counted, countText, endText, nameText, ratesOf, secondsText, titleOf } from './text.js';
import type { Mark, MemoryState, WatchedProgram } from './watched-program.js';

/** The picture takes at most this part of the terminal's lines. */
const PART = 1 / 2;
const LINES_EACH = 2;

export interface TerminalOptions {
  intervalMs: number;
  /** Default: the terminal's. */
  columns: number | undefined;
  color: boolean;
}

export class TerminalDisplay implements Display {
  readonly #out: WriteStream;
  readonly #panel: TerminalPanel;
  readonly #options: TerminalOptions;
  readonly #problems: string[] = [];
  #engine = '';
  #mark = '';

  constructor(out: WriteStream, options: TerminalOptions) {
    this.#out = out;
    this.#panel = new TerminalPanel(out);
    this.#options = options;
  }

  threadStarted(_thread: number, engine: string): void {
    this.#engine = engine;
  }

  intervalEnded(): void {
    // Drawn at the tick.
  }

  marked({ names, pages }: Mark): void {
    this.#mark = `${nameText(names.at(-1)!)}: ${countText(pages, 'page')}`;
  }

  problem(_thread: number, message: string): void {
    this.#problems.push(`userfaultfd: not watched: ${message}`);
  }

  tick(program: WatchedProgram): void {
    const { columns, rows } = this.#out;
    const room = Math.floor((rows * PART - 1) / LINES_EACH);
    if (room < 1) return;
    const width = Math.min(this.#options.columns ?? columns, columns);
    const memories = program.memories;
    const age = program.ageOf(0);
    const heading = [
      `userfaultfd ${secondsText(program.elapsedMs)}`,
      isLate(age, this.#options.intervalMs) ? `last look ${secondsText(age)} ago` : '',
      counted(memories.length),
      this.#engine,
      this.#mark,
      ...this.#problems.slice(-1).map(nameText),
    ];
    const lines = [
      heading.filter((text) => text !== '').join(' | '),
      ...memories.slice(0, room).flatMap((state) => this.#linesOf(state, program, width)),
    ];
    // The last column stays free: a terminal may wrap after it.
    this.#panel.draw(
      lines.map((line, i) => (i % LINES_EACH === 0 && i > 0 ? line : line.slice(0, width - 1))),
    );
  }

  ended(end: ProgramEnd, program: WatchedProgram): void {
    this.#panel.close();
    // The program may have left its last line open.
    this.#out.write(['', ...this.#problems, endText(end, program), ''].join('\n'));
  }

  /** For a stop that the program does not see as its end. */
  leave(): void {
    this.#panel.leave();
  }

  #linesOf(state: MemoryState, program: WatchedProgram, width: number): string[] {
    const age = program.ageOf(state.thread);
    const late = isLate(age, this.#options.intervalMs) ? `  (${secondsText(age)} ago)` : '';
    const { color } = this.#options;
    // One that was seen at a mark only has no interval behind it yet.
    const heat = drawHeat(state.history.length > 0 ? state.history : [state], {
      columns: width - 1,
      rows: 1,
      color,
      by: 'recent',
    });
    return [`${titleOf(state)}  ${ratesOf(state)}${late}`, heat];
  }
}
