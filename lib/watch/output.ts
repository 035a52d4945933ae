// Where the lines or the records go: never the program's standard output.

import fs from 'node:fs';
import { Writable } from 'node:stream';
import { promisify } from 'node:util';

const open = promisify(fs.open);

const STANDARD_ERROR = 2;
/** A pipe that the program has made non-blocking is tried again after so long. */
const RETRY_MS = 5;

/** Text out, at the reader's pace. When the reader is gone or the disk full, into the void: the program goes on. */
export class Output {
  readonly #stream: Writable;
  #closed = false;
  #onRoom: () => void = () => undefined;
  /** Of what became of the file. */
  #told: Promise<void> | undefined;

  private constructor(descriptor: number, file: string | undefined) {
    this.#stream = descriptorStream(descriptor);
    this.#stream.on('drain', () => this.#onRoom());
    this.#stream.on('error', (error) => {
      this.#closed = true;
      if (file !== undefined) this.#told = tell(`userfaultfd: ${file} is not complete: ${error.message}\n`);
      this.#onRoom();
    });
  }

  /** `file`, or standard error. */
  static async open(file: string | undefined): Promise<Output> {
    return new Output(file === undefined ? STANDARD_ERROR : await open(file, 'w'), file);
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
    this.#onRoom = then;
  }

  /** Resolves when everything is written, or nobody reads. */
  async end(): Promise<void> {
    if (!this.#closed) await ended(this.#stream);
    await this.#told;
  }
}

async function tell(text: string): Promise<void> {
  const stream = descriptorStream(STANDARD_ERROR);
  // Nobody reads that either.
  stream.on('error', () => undefined);
  stream.write(text);
  await ended(stream);
}

async function ended(stream: Writable): Promise<void> {
  await new Promise<void>((resolve) => {
    stream.once('close', resolve);
    stream.end();
  });
}

/**
 * Standard error is the program's as well, whose writes must go on as they do without us, so nothing may
 * make it non-blocking (`process.stderr` does), and the program may have made it so itself (test 71).
 */
function descriptorStream(descriptor: number): Writable {
  const writeAll = (data: Buffer, done: (error?: Error) => void): void => {
    fs.write(descriptor, data, (error, written) => {
      if (error?.code === 'EAGAIN') setTimeout(writeAll, RETRY_MS, data, done);
      else if (error !== null) done(error);
      else if (written < data.length) writeAll(data.subarray(written), done);
      else done();
    });
  };
  return new Writable({ write: (data: Buffer, _encoding, done) => writeAll(data, done) });
}
