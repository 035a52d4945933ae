// A tracker as an async iterator.

import type { DirtyPages } from './dirty-pages.js';
import { invalidType, outOfRange } from './errors.js';
import { checkInteger, checkOptions, checkSignal } from './validate.js';
import type { Consumer } from './waiting-iterator.js';

export interface WatchOptions {
  /** Time between two looks, in milliseconds. Default 100. */
  intervalMs?: number;
  signal?: AbortSignal;
  /** Fewer written pages are left for a later look. Default 1. */
  minPages?: number;
}

/** @internal What is watched. */
export interface Watched {
  collect(): DirtyPages;
  peek(): DirtyPages;
  readonly closed: boolean;
}

const LONGEST_INTERVAL_MS = 2 ** 31 - 1;

/** @internal */
export interface CheckedWatchOptions {
  intervalMs: number;
  signal: AbortSignal | undefined;
  minPages: number;
}

/** @internal */
export function checkWatchOptions(options: unknown): CheckedWatchOptions {
  const {
    intervalMs = 100,
    signal,
    minPages = 1,
  } = checkOptions('options', options, ['intervalMs', 'signal', 'minPages']);
  if (typeof intervalMs !== 'number') throw invalidType('options.intervalMs', 'of type number', intervalMs);
  if (!(intervalMs >= 1 && intervalMs <= LONGEST_INTERVAL_MS)) {
    throw outOfRange('options.intervalMs', `>= 1 and <= ${LONGEST_INTERVAL_MS}`, intervalMs);
  }
  checkInteger('options.minPages', minPages, 1, Number.MAX_SAFE_INTEGER);
  return { intervalMs, signal: checkSignal(signal), minPages };
}

/** @internal `consumer` has no iterator now. */
export function watchIterator(
  watched: Watched,
  { intervalMs, signal, minPages }: CheckedWatchOptions,
  consumer: Consumer<DirtyPages>,
): AsyncIterableIterator<DirtyPages> {
  let timer: NodeJS.Timeout | undefined;
  let nextLook = 0;
  return consumer.iterate(
    {
      take: () => {
        if (watched.closed || performance.now() < nextLook) return undefined;
        nextLook = performance.now() + intervalMs;
        // A peek takes nothing, so what is too little now is there at the next look.
        if (minPages > 1 && watched.peek().pageCount < minPages) return undefined;
        const dirty = watched.collect();
        return dirty.isEmpty ? undefined : dirty;
      },
      ended: () => watched.closed,
      waiting: (someone) => {
        clearTimeout(timer);
        const pause = Math.max(Math.ceil(nextLook - performance.now()), 1);
        // Sums of floating point numbers may be above what a timer can take.
        if (someone) timer = setTimeout(() => consumer.advance(), Math.min(pause, LONGEST_INTERVAL_MS));
      },
      taken: () => undefined,
      released: () => undefined,
    },
    signal,
  );
}
