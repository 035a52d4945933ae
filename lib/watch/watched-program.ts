// What is known of a watched program from its looks: its memories, how fast they are written, and how
// old all that is.

import { countPages } from '../dirty-pages.js';
import type { HeatLook } from '../heat.js';
import { bytesIn, ListReader, unionOf, type RangeList } from '../range-list.js';
import type { Look, ProgramRecord, SeenMemory } from './records.js';

/** Looks that the picture goes back. */
const HISTORY = 12;
const NOTHING: RangeList = new Float64Array(0);

/** A memory, and what was written to it in the last interval. */
export interface MemoryState extends Omit<SeenMemory, 'id' | 'ranges'> {
  /** 1 for the first that was seen. */
  memory: number;
  /** 0 is the main thread. */
  thread: number;
  intervalMs: number;
  ranges: RangeList;
  pages: number;
  bytes: number;
  pagesPerSecond: number;
  bytesPerSecond: number;
  /** Of the memory's bytes, 0 to 1. */
  share: number;
  /** Sum over all intervals. */
  totalPages: number;
  totalBytes: number;
  history: HeatLook[];
}

/** What was written until the program said that something is over. */
export interface Mark {
  /** One, but when the reader was slower than the program. */
  names: string[];
  unnamed: number;
  thread: number;
  pages: number;
  bytes: number;
  memories: { memory: number; pages: number; bytes: number }[];
}

/** Whoever wants to know at once. Times are milliseconds since the program was started. */
export interface ProgramListener {
  threadStarted(thread: number, engine: string): void;
  intervalEnded(state: MemoryState, time: number): void;
  marked(mark: Mark, time: number): void;
  problem(thread: number, message: string): void;
}

interface Thread {
  /** Milliseconds since the epoch. */
  intervalStart: number;
  /** The clock of this process, when its last look came. */
  lookedAt: number;
  memories: Map<number, MemoryState>;
  /** What marks have taken of the interval under way. */
  taken: Map<number, RangeList>;
}

export class WatchedProgram {
  readonly #listener: ProgramListener;
  readonly #startedAt = Date.now();
  readonly #threads = new Map<number, Thread>();
  #seen = 0;
  /** Freed, given away, or of a thread that has ended: those that were written most. */
  #gone: MemoryState[] = [];
  #marks: { count: number; pages: number[] } = { count: 0, pages: [] };
  #lookMs = 0;
  #complete = false;

  constructor(listener: ProgramListener) {
    this.#listener = listener;
  }

  get elapsedMs(): number {
    return Date.now() - this.#startedAt;
  }

  /** How many there were. */
  get memoryCount(): number {
    return this.#seen;
  }

  /** Those that exist, what was written most first. */
  get memories(): MemoryState[] {
    return mostWrittenFirst([...this.#threads.values()].flatMap(({ memories }) => [...memories.values()]));
  }

  /** The same with those that are gone, but for many that were written less. */
  get memoriesEver(): MemoryState[] {
    return mostWrittenFirst([...this.memories, ...this.#gone]);
  }

  /** The pages of each mark, of the last ones when there are very many. */
  get marks(): { count: number; pages: readonly number[] } {
    return this.#marks;
  }

  /** Time that looking took from the program. */
  get lookMs(): number {
    return this.#lookMs;
  }

  /** Whether the program's last look came. It does not when a signal ended the program. */
  get complete(): boolean {
    return this.#complete;
  }

  /** How old the news of a thread is, in milliseconds. 0 for one that has not begun or has ended. */
  ageOf(thread: number): number {
    const lookedAt = this.#threads.get(thread)?.lookedAt;
    return lookedAt === undefined ? 0 : performance.now() - lookedAt;
  }

  take(record: ProgramRecord): void {
    if (record.type === 'start') {
      this.#threads.set(record.thread, {
        intervalStart: Date.now(),
        lookedAt: performance.now(),
        memories: new Map(),
        taken: new Map(),
      });
      this.#listener.threadStarted(record.thread, record.engine);
    } else if (record.type === 'problem') {
      this.#listener.problem(record.thread, record.message);
    } else {
      this.#takeLook(record);
    }
  }

  #takeLook(look: Look): void {
    const thread = this.#threads.get(look.thread);
    if (thread === undefined) return;
    thread.lookedAt = performance.now();
    this.#lookMs += look.lookMs;
    for (const seen of look.memories) this.#takeMemory(thread, look, seen);
    const time = Math.max(look.at - this.#startedAt, 0);
    if (look.marks !== undefined) this.#listener.marked(this.#markOf(thread, look), time);
    else this.#endInterval(thread, look, time);
    if (!look.last) return;
    this.#threads.delete(look.thread);
    if (look.thread === 0) this.#complete = true;
  }

  #takeMemory(thread: Thread, look: Look, { id, ranges, threadIds, ...seen }: SeenMemory): void {
    const before = thread.memories.get(id);
    const state = before ?? unwritten(++this.#seen, look.thread);
    // What is gone keeps its size.
    if (seen.state === 'live') Object.assign(state, seen);
    else Object.assign(state, { kind: seen.kind, state: seen.state });
    if (threadIds !== undefined) {
      state.threadIds = [...new Set([...(state.threadIds ?? []), ...threadIds])].sort((a, b) => a - b);
    }
    thread.memories.set(id, state);
    thread.taken.set(id, unionOf(thread.taken.get(id) ?? NOTHING, Float64Array.from(ranges)));
  }

  #markOf(thread: Thread, { marks, unnamedMarks, memories, ...look }: Look): Mark {
    const written = memories
      .filter(({ ranges }) => ranges.length > 0)
      .map(({ id, lead, pageSize, ranges: list }) => {
        const ranges = Float64Array.from(list);
        const { memory } = thread.memories.get(id)!;
        return {
          memory,
          pages: countPages(new ListReader(ranges), { lead, pageSize }),
          bytes: bytesIn(new ListReader(ranges)),
        };
      });
    const pages = written.reduce((sum, each) => sum + each.pages, 0);
    const bytes = written.reduce((sum, each) => sum + each.bytes, 0);
    this.#marks.count += marks!.length + unnamedMarks;
    this.#marks.pages.push(pages);
    if (this.#marks.pages.length > MOST_MARKS) this.#marks.pages.splice(0, MOST_MARKS / 2);
    return { names: marks!, unnamed: unnamedMarks, thread: look.thread, pages, bytes, memories: written };
  }

  #endInterval(thread: Thread, look: Look, time: number): void {
    const intervalMs = Math.max(look.at - thread.intervalStart, 1);
    thread.intervalStart = look.at;
    for (const [id, state] of thread.memories) {
      measure(state, thread.taken.get(id) ?? NOTHING, intervalMs);
      this.#listener.intervalEnded(state, time);
      if (state.threadIds !== undefined) state.threadIds = [];
      if (state.state === 'live' && !look.last) continue;
      thread.memories.delete(id);
      this.#gone.push(state);
    }
    if (this.#gone.length > MOST_GONE) this.#gone = mostWrittenFirst(this.#gone).slice(0, MOST_GONE / 2);
    thread.taken.clear();
  }
}

const MOST_MARKS = 100_000;
const MOST_GONE = 200;

function mostWrittenFirst(memories: MemoryState[]): MemoryState[] {
  return memories.sort((a, b) => b.totalPages - a.totalPages || a.memory - b.memory);
}

function unwritten(memory: number, thread: number): MemoryState {
  return {
    memory,
    thread,
    kind: 'ArrayBuffer',
    state: 'live',
    byteLength: 0,
    pageSize: 0,
    lead: 0,
    exact: true,
    intervalMs: 0,
    ranges: NOTHING,
    pages: 0,
    bytes: 0,
    pagesPerSecond: 0,
    bytesPerSecond: 0,
    share: 0,
    totalPages: 0,
    totalBytes: 0,
    history: [],
  };
}

/** An interval is over in which `ranges` were written. */
function measure(state: MemoryState, ranges: RangeList, intervalMs: number): void {
  const { byteLength, pageSize, lead } = state;
  state.intervalMs = intervalMs;
  state.ranges = ranges;
  state.pages = countPages(new ListReader(ranges), { lead, pageSize });
  state.bytes = bytesIn(new ListReader(ranges));
  state.pagesPerSecond = (state.pages * 1000) / intervalMs;
  state.bytesPerSecond = (state.bytes * 1000) / intervalMs;
  state.share = byteLength === 0 ? 0 : state.bytes / byteLength;
  state.totalPages += state.pages;
  state.totalBytes += state.bytes;
  state.history.push({ byteLength, pageSize, ranges });
  if (state.history.length > HISTORY) state.history.shift();
}
