// Where the picture, the lines or the records go: never the program's standard output.

import { createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Writable } from 'node:stream';

/** Text out, at the reader's pace. When the reader is gone, into the void: the program goes on. */
export class Output {
  readonly #stream: Writable;
  #closed = false;
  #waiting: () => void = () => undefined;

  private constructor(stream: Writable) {
    this.#stream = stream;
    stream.on('drain', () => this.#waiting());
    stream.on('error', () => {
      this.#closed = true;
      this.#waiting();
    });
  }

  /** `file`, or standard error. Not `process.stderr`: that blocks on a pipe nobody reads. */
  static async open(file: string | undefined): Promise<Output> {
    const target = file === undefined ? { fd: 2, autoClose: false } : { fd: await open(file, 'w') };
    return new Output(createWriteStream('', target));
  }

  write(text: string): void {
    if (!this.#closed) this.#stream.write(text);
  }

  /** The reader has something to catch up with. */
  get isFull(): boolean {
    return !this.#closed && this.#stream.writableNeedDrain;
  }

  /** Called when there is room again. */
  set onRoom(then: () => void) {
    this.#waiting = then;
  }

  /** Resolves when everything is written, or nobody reads. */
  async end(): Promise<void> {
    if (this.#closed) return;
    await new Promise<void>((resolve) => {
      this.#stream.once('close', resolve).once('error', () => resolve());
      this.#stream.end(resolve);
    });
  }
}
