// Looks at the memories of one thread of the watched program: at each interval, at each mark, and when
// the thread ends.

import type { DirtyEngine } from '../dirty-engine.js';
import type { RecordWriter } from './channel.js';
import type { SeenMemory, WatchedKind } from './records.js';
import { WatchedMemory } from './watched-memory.js';

/** Names of marks that may wait for the reader. */
const MOST_MARKS = 10_000;
/** Memories that were freed are let go of at a look, or when this many were added. */
const SWEEP_AT_LEAST = 64;
/** How long a thread waits at its end for a reader that does not read. */
const LAST_WAIT_MS = 2000;

export class Watcher {
  readonly #writer: RecordWriter;
  readonly #thread: number;
  readonly #engine: DirtyEngine;
  readonly #memories = new Set<WatchedMemory>();
  #gone: SeenMemory[] = [];
  #nextId = 1;
  #sweepAt = SWEEP_AT_LEAST;
  #marks: string[] = [];
  #unnamedMarks = 0;
  /** The buffers made now are those of the watcher itself. */
  #own = false;
  #problems = new Set<string>();

  constructor(writer: RecordWriter, thread: number, engine: DirtyEngine) {
    this.#writer = writer;
    this.#thread = thread;
    this.#engine = engine;
    writer.write({ type: 'start', thread, engine });
  }

  /** A memory that the program made. */
  add(memory: object, kind: WatchedKind): void {
    if (this.#own || this.#writer.closed) return;
    // `wp-sync` cannot always tell that memory which lies where freed memory did is another.
    if (this.#engine === 'wp-sync' || this.#memories.size >= this.#sweepAt) this.#sweep();
    this.#try(() => this.#memories.add(new WatchedMemory(this.#nextId++, kind, memory, this.#engine)));
  }

  /** The program registers this memory itself. */
  letGoOf(buffer: ArrayBufferLike): void {
    for (const memory of this.#memories) {
      this.#try(() => {
        if (!memory.isIn(buffer)) return;
        this.#gone.push(memory.gone('registered'));
        this.#remove(memory);
      });
    }
  }

  /** Something in the program is over, a transaction say, and its pages are to be told by themselves. */
  mark(name: string): void {
    if (this.#marks.length < MOST_MARKS) this.#marks.push(name);
    else this.#unnamedMarks++;
    if (this.#writer.drain()) this.#look(false);
  }

  /** The interval is over. Nothing is collected that could not be told: it is there at the next look. */
  tick(): void {
    if (this.#writer.drain()) this.#closeInterval(false);
  }

  /** The thread ends. */
  end(): void {
    this.#writer.drainWithin(LAST_WAIT_MS);
    this.#closeInterval(true);
    this.#writer.drainWithin(LAST_WAIT_MS);
  }

  #closeInterval(last: boolean): void {
    // Marks that had to wait: what was written before the latest is theirs.
    if (this.#marks.length > 0) this.#look(false);
    this.#look(last);
  }

  #look(last: boolean): void {
    if (this.#writer.closed) {
      this.#letGo();
      return;
    }
    this.#own = true;
    const started = performance.now();
    const memories = this.#collect();
    this.#writer.write({
      type: 'look',
      thread: this.#thread,
      at: performance.timeOrigin + started,
      lookMs: performance.now() - started,
      marks: this.#marks.length > 0 ? this.#marks : undefined,
      unnamedMarks: this.#unnamedMarks,
      last,
      memories,
    });
    this.#own = false;
    this.#marks = [];
    this.#unnamedMarks = 0;
  }

  #collect(): SeenMemory[] {
    const seen = this.#gone;
    this.#gone = [];
    for (const memory of this.#memories) {
      this.#try(() => {
        const found = memory.look();
        if (found === undefined) return;
        seen.push(found);
        if (found.state !== 'live') this.#remove(memory);
      });
    }
    this.#sweepAt = Math.max(SWEEP_AT_LEAST, 2 * this.#memories.size);
    return seen;
  }

  /** A program that makes memories faster than looks come must not be kept from freeing them. */
  #sweep(): void {
    for (const memory of this.#memories) {
      if (!memory.isFreed) continue;
      this.#gone.push(memory.gone('freed'));
      this.#remove(memory);
    }
    this.#sweepAt = Math.max(SWEEP_AT_LEAST, 2 * this.#memories.size);
  }

  #remove(memory: WatchedMemory): void {
    this.#memories.delete(memory);
    memory.close();
  }

  /** Nobody listens any more. */
  #letGo(): void {
    for (const memory of this.#memories) this.#remove(memory);
  }

  /** Whatever goes wrong here is told once, and is none of the program's business. */
  #try(work: () => unknown): void {
    try {
      work();
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (this.#problems.has(message)) return;
      this.#problems.add(message);
      this.#writer.write({ type: 'problem', thread: this.#thread, message });
    }
  }
}
