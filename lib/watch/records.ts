// What a watched program tells `userfaultfd watch`, and what that tells others.

import type { DirtyEngine } from '../dirty-engine.js';

/** What is watched: Wasm memories, and buffers of some size. */
export type WatchedKind = 'WebAssembly.Memory' | 'ArrayBuffer' | 'SharedArrayBuffer';

/** How the preload in the program is to watch. */
export interface WatchConfig {
  /** The process id of `userfaultfd watch`: only its own child reports. */
  parent: number;
  descriptor: number;
  intervalMs: number;
  /** Of buffers; a Wasm memory of any size is watched. */
  minBytes: number;
  buffers: boolean;
  engine: 'auto' | DirtyEngine;
}

/** What one look found in a memory. Memories in which nothing happened are left out. */
export interface SeenMemory {
  /** Unique in its thread. */
  id: number;
  kind: WatchedKind;
  /** `registered`: with a userfaultfd of the program, so it is not watched any more. */
  state: 'live' | 'detached' | 'freed' | 'registered';
  /** Bytes, at the look. */
  byteLength: number;
  pageSize: number;
  /** Where it begins in its first page, in bytes. */
  lead: number;
  exact: boolean;
  /** `[offset, length, …]` in bytes. */
  ranges: number[];
  /** gettid(2) of those that wrote, ascending; where the engine tells. */
  threadIds?: number[];
}

export interface Look {
  type: 'look';
  thread: number;
  /** Milliseconds since the epoch. */
  at: number;
  /** How long the look took, of the program's time. */
  lookMs: number;
  /** Why it looked now: the interval is over (or the thread), or the program said these. */
  marks: string[] | undefined;
  /** Marks whose names were not kept. */
  unnamedMarks: number;
  /** The thread ends. */
  last: boolean;
  memories: SeenMemory[];
}

export type ProgramRecord =
  | { type: 'start'; thread: number; engine: DirtyEngine }
  | Look
  | { type: 'problem'; thread: number; message: string };
