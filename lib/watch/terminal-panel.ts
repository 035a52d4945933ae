// The last lines of the terminal, for the picture. The program goes on writing above them: it scrolls in
// the rest (DECSTBM). Libraries that redraw in place, such as log-update, erase upwards from the cursor,
// and the cursor is the program's here: they would erase its output (test 72).

import type { WriteStream } from 'node:tty';

/** Control sequences of ECMA-48 and the VT100, which every terminal has that Node.js runs on. */
const SAVE_CURSOR = '\u001b7';
const RESTORE_CURSOR = '\u001b8';
const INDEX = '\u001bD';
const ERASE_TO_END = '\u001b[J';
const ERASE_LINE = '\u001b[K';
const ALL_LINES = '\u001b[r';
const up = (lines: number): string => `\u001b[${lines}A`;
const lineAt = (row: number): string => `\u001b[${row};1H`;
const scrollIn = (rows: number): string => `\u001b[1;${rows}r`;

export class TerminalPanel {
  readonly #out: WriteStream;
  #height = 0;
  #rows = 0;
  readonly #onResize = (): void => this.leave();

  constructor(out: WriteStream) {
    this.#out = out;
    out.on('resize', this.#onResize);
  }

  /** Shows these lines, no wider than the terminal. The panel grows as needed; a draw is one write. */
  draw(lines: readonly string[]): void {
    this.#rows = this.#out.rows;
    const reserve = lines.length > this.#height ? this.#reserve(lines.length) : '';
    const first = this.#rows - this.#height + 1;
    const shown = Array.from(
      { length: this.#height },
      (_, i) => lineAt(first + i) + ERASE_LINE + (lines[i] ?? ''),
    );
    this.#out.write(reserve + SAVE_CURSOR + shown.join('') + RESTORE_CURSOR);
  }

  /** Gives the lines back, and leaves the cursor where the program left it. */
  leave(): void {
    if (this.#height === 0) return;
    // The size before: a terminal that became smaller takes the last line for a row it does not have.
    const first = Math.max(this.#rows - this.#height + 1, 1);
    this.#height = 0;
    this.#out.write(SAVE_CURSOR + ALL_LINES + lineAt(first) + ERASE_TO_END + RESTORE_CURSOR);
  }

  close(): void {
    this.leave();
    this.#out.off('resize', this.#onResize);
  }

  /** Moves what is there up, if it must, and keeps the program off the last `height` lines. */
  #reserve(height: number): string {
    const more = height - this.#height;
    this.#height = height;
    return INDEX.repeat(more) + up(more) + SAVE_CURSOR + scrollIn(this.#rows - height) + RESTORE_CURSOR;
  }
}
