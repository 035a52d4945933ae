// Who wrote: the first write to each page since it was armed, as the engine `wp-sync` sees it.

import { holds, type RangeList } from './range-list.js';

/** The first write to a page since it was armed. */
export interface FirstWrite {
  /** Bytes from the start of the memory: of the byte written, or of its page before Linux 5.18. */
  offset: number;
  /** gettid(2) of the thread that wrote; the main thread's is `process.pid`. */
  threadId: number;
  /** Which of several memories; absent when there is one. */
  memory?: number;
}

/** @internal `[offset, threadId, …]`, in the order they came. */
export type WriteList = Float64Array;

/** @internal */
export interface KnownWrites {
  list: WriteList;
  /** More than these were not kept. */
  missed: number;
}

/** @internal Those of the writes that lie in the ranges. */
export function writesIn(ranges: RangeList, ...known: (KnownWrites | undefined)[]): KnownWrites {
  const kept: number[] = [];
  for (const writes of known) {
    for (let i = 0; i < (writes?.list.length ?? 0); i += 2) {
      const offset = writes!.list[i]!;
      if (holds(ranges, offset)) kept.push(offset, writes!.list[i + 1]!);
    }
  }
  const missed = known.reduce((sum, writes) => sum + (writes?.missed ?? 0), 0);
  return { list: Float64Array.from(kept), missed };
}

/** @internal */
export function firstWrites({ list }: KnownWrites, memory: number | undefined): FirstWrite[] {
  return Array.from({ length: list.length / 2 }, (_, i) => ({
    offset: list[2 * i]!,
    threadId: list[2 * i + 1]!,
    ...(memory === undefined ? {} : { memory }),
  }));
}
