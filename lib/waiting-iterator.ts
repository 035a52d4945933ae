// The one async iterator of this package: batches inside, one consumer, Node's manners.

import timers from 'node:timers';
import { abortError } from './errors.js';

// As they are now: a test that puts a clock of its own in their place stops neither events nor this.
const { setImmediate } = timers;
const now = performance.now.bind(performance);

/** What an iterator needs from the object it belongs to. */
export interface Source<T> {
  /** The next value, or undefined when there is none yet. */
  take(): T | undefined;
  /** Whether values can still come, or the error that ended them. */
  ended(): boolean | Error;
  /**
   * Somebody waits for a value now, or nobody does. Called after each change. While somebody does, who
   * will call `wake()` or `advance()` must be kept: who waits may have nothing but the promise.
   */
  waiting(someone: boolean): void;
  /** The iterator is done with; another may be taken. */
  released(): void;
  /**
   * In milliseconds: so long values are handed over before the event loop gets a turn. Without it, as
   * long as there are any.
   */
  longestTurn?: number;
}

/** Nothing in it leads to the iterator. */
interface Dropped {
  source: Pick<Source<unknown>, 'released'>;
  signal: AbortSignal | undefined;
  onAbort: (() => void) | undefined;
}

/** Iterators that nobody returned and nobody can reach any more. */
const dropped = new FinalizationRegistry<Dropped>(({ source, signal, onAbort }) => {
  if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
  source.released();
});

/**
 * Holds an object weakly, and strongly while it is awaited. So a WeakRef is asked only when it must be:
 * that allocates, for each event.
 */
export class Hold<T extends object> {
  readonly #weak: WeakRef<T>;
  #strong: T | undefined;

  constructor(object: T) {
    this.#weak = new WeakRef(object);
  }

  get object(): T | undefined {
    return this.#strong ?? this.#weak.deref();
  }

  /** `object`: itself while it is awaited. */
  keep(object: T | undefined): void {
    this.#strong = object;
  }
}

interface Waiter<T> {
  resolve(result: IteratorResult<T, undefined>): void;
  reject(error: Error): void;
}

/**
 * An iterator over what comes in time. Written out and not an async generator: the `return()` of a
 * generator waits for the `next()` before it, which may never come, and does nothing before the first.
 */
export class WaitingIterator<T> implements AsyncIterableIterator<T> {
  readonly #hold = new Hold<WaitingIterator<T>>(this);
  readonly #source: Source<T>;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: (() => void) | undefined;
  #waiters: Waiter<T>[] = [];
  /** When the event loop last had a turn, as far as is known here. */
  #turnBegan = now();
  #turnAwaited = false;
  #finished = false;
  #error: Error | undefined;

  constructor(source: Source<T>, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#signal = signal;
    if (signal?.aborted) {
      this.#finish(abortError(signal));
      return;
    }
    if (signal !== undefined) {
      this.#onAbort = WaitingIterator.#aborting(this.#hold, signal);
      signal.addEventListener('abort', this.#onAbort, { once: true });
    }
    dropped.register(this, { source, signal, onAbort: this.#onAbort }, this);
  }

  static holdOf<T>(iterator: WaitingIterator<T>): Hold<WaitingIterator<T>> {
    return iterator.#hold;
  }

  /** A signal outlives many iterators and must keep none of them. */
  static #aborting<T>(hold: Hold<WaitingIterator<T>>, signal: AbortSignal): () => void {
    return () => {
      const live = hold.object;
      if (live !== undefined) live.#finish(abortError(signal));
    };
  }

  next(): Promise<IteratorResult<T, undefined>> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      const { longestTurn = Infinity } = this.#source;
      if (this.#finished || now() - this.#turnBegan < longestTurn) this.advance();
      else this.#awaitTurn();
    });
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#finish(undefined);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The event loop is at it, and there may be something. */
  wake(): void {
    this.#turnBegan = now();
    this.advance();
  }

  #awaitTurn(): void {
    if (this.#turnAwaited) return;
    this.#turnAwaited = true;
    setImmediate(() => {
      this.#turnAwaited = false;
      this.wake();
    });
  }

  /** Hands over what there is to those who wait. Called when there may be something. */
  advance(): void {
    while (this.#waiters.length > 0 && !this.#finished) {
      const value = this.#take();
      if (value !== undefined) {
        this.#waiters.shift()!.resolve({ done: false, value });
        continue;
      }
      if (!this.#hasEnded()) break;
    }
    if (this.#finished) this.#settleWaiters();
    else this.#tellWaiting(this.#waiters.length > 0);
  }

  #tellWaiting(someone: boolean): void {
    this.#hold.keep(someone ? this : undefined);
    this.#source.waiting(someone);
  }

  #hasEnded(): boolean {
    if (this.#finished) return true;
    const ended = this.#source.ended();
    if (ended === false) return false;
    this.#finish(ended === true ? undefined : ended);
    return true;
  }

  #take(): T | undefined {
    try {
      return this.#source.take();
    } catch (error) {
      this.#finish(error as Error);
      return undefined;
    }
  }

  #finish(error: Error | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#error = error;
    dropped.unregister(this);
    if (this.#onAbort !== undefined) this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#tellWaiting(false);
    this.#source.released();
    this.#settleWaiters();
  }

  #settleWaiters(): void {
    for (const waiter of this.#waiters.splice(0)) {
      if (this.#error === undefined) {
        waiter.resolve({ done: true, value: undefined });
      } else {
        // Once: like any iterator that threw, it is then just done.
        const error = this.#error;
        this.#error = undefined;
        waiter.reject(error);
      }
    }
  }
}

export interface ConsumerSource<T> extends Source<T> {
  /** There is a consumer now. */
  taken(): void;
}

/** The one consumer that an object may have at a time. */
export class Consumer<T> {
  /** Weakly: who drops an iterator without `return()` is done with it (test 52, test 31). */
  #current: Hold<WaitingIterator<T>> | undefined;

  get present(): boolean {
    return this.#current?.object !== undefined;
  }

  /** Hands over what there is. */
  advance(): void {
    this.#current?.object?.advance();
  }

  /** The same, from the event loop. */
  wake(): void {
    this.#current?.object?.wake();
  }

  /** Takes the place of the consumer, until the iterator is done or dropped. */
  iterate(source: ConsumerSource<T>, signal: AbortSignal | undefined): AsyncIterableIterator<T> {
    const place: { hold: Hold<WaitingIterator<T>> | undefined; left: boolean } = {
      hold: undefined,
      left: false,
    };
    // No closure here may hold the iterator itself.
    const iterator = new WaitingIterator<T>(
      {
        take: () => source.take(),
        ended: () => source.ended(),
        waiting: (someone) => source.waiting(someone),
        released: () => {
          place.left = true;
          // One that was aborted before it began has taken no place, and that of one that was dropped may
          // have been taken since.
          if (place.hold === undefined || this.#current !== place.hold) return;
          this.#current = undefined;
          source.released();
        },
        ...(source.longestTurn === undefined ? {} : { longestTurn: source.longestTurn }),
      },
      signal,
    );
    // A signal that was aborted before has finished it.
    if (!place.left) {
      this.#current = place.hold = WaitingIterator.holdOf(iterator);
      source.taken();
    }
    return iterator;
  }
}
