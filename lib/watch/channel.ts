// From the watched program to `userfaultfd watch`: records of all threads over one stream socket.
//
// A record is JSON in frames, each a line of the thread's number, `.` for the last frame of a record or
// `+`, and a part of the text. The kernel takes a frame whole or not at all, so the frames of several
// threads never mix (test 71), and none waits for another.

import { writeSync } from 'node:fs';
import type { ProgramRecord } from './records.js';

/** Bytes of a frame: what a stream socket takes in one piece. */
const FRAME_BYTES = 4096;
const NEWLINE = 10;

export class RecordWriter {
  #waiting: Buffer[] = [];
  #closed = false;

  constructor(
    /** Non-blocking. */
    private readonly descriptor: number,
    private readonly thread: number,
  ) {}

  get closed(): boolean {
    return this.#closed;
  }

  write(record: ProgramRecord): void {
    this.#waiting.push(...framesOf(record, this.thread));
    this.drain();
  }

  /** Writes what waits; tells whether all of it is gone. Never blocks. */
  drain(): boolean {
    while (!this.#closed && this.#waiting.length > 0) {
      const frame = this.#waiting[0]!;
      try {
        const written = writeSync(this.descriptor, frame);
        if (written < frame.length) this.#waiting[0] = frame.subarray(written);
        else this.#waiting.shift();
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return false;
        // Nobody reads any more; the program goes on by itself.
        this.#closed = true;
      }
    }
    this.#waiting.length = 0;
    return true;
  }

  /** The same at the end of the thread, when nothing else will: waits for the reader, but not for ever. */
  drainWithin(ms: number): void {
    const deadline = performance.now() + ms;
    while (!this.drain() && performance.now() < deadline) Atomics.wait(nothing, 0, 0, 5);
  }
}

const nothing = new Int32Array(new SharedArrayBuffer(4));

function framesOf(record: ProgramRecord, thread: number): Buffer[] {
  const text = Buffer.from(JSON.stringify(record));
  const room = FRAME_BYTES - `${thread}+\n`.length;
  const frames: Buffer[] = [];
  for (let at = 0; at < text.length; at += room) {
    const end = at + room >= text.length ? '.' : '+';
    frames.push(Buffer.concat([Buffer.from(`${thread}${end}`), text.subarray(at, at + room), LINE_END]));
  }
  return frames;
}

const LINE_END = Buffer.from('\n');
const FRAME = /^(\d+)([.+])/;

/** Puts the records together again. What is no frame (the program wrote there itself) is left out. */
export class RecordReader {
  #rest: Buffer = Buffer.alloc(0);
  readonly #begun = new Map<string, Buffer[]>();

  /** The records that are complete with these bytes. */
  read(data: Buffer): ProgramRecord[] {
    const bytes = Buffer.concat([this.#rest, data]);
    const records: ProgramRecord[] = [];
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      const record = this.#frame(bytes.subarray(start, end));
      if (record !== undefined) records.push(record);
      start = end + 1;
    }
    this.#rest = bytes.subarray(start);
    return records;
  }

  #frame(line: Buffer): ProgramRecord | undefined {
    const head = FRAME.exec(line.subarray(0, 24).toString('latin1'));
    if (head === null) return undefined;
    const [{ length }, thread, end] = head as unknown as [string, string, string];
    const parts = this.#begun.get(thread) ?? [];
    parts.push(line.subarray(length));
    if (end === '+') {
      this.#begun.set(thread, parts);
      return undefined;
    }
    this.#begun.delete(thread);
    try {
      return JSON.parse(Buffer.concat(parts).toString()) as ProgramRecord;
    } catch {
      return undefined;
    }
  }
}
